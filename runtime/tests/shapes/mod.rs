//! An interface with every shape of argument and answer, and an object that implements it. Tests call it locally and through every
//! transport: on a host, and between processes of the machine.

pub mod hostile;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use tessera_runtime::object::{Event, Vmo};
use tessera_runtime::transport::Fills;
use tessera_runtime::{Cap, InterfaceError, Plain, Transfer, TransportError, interface, own};

/// Every shape.
#[interface]
pub trait Shapes {
    fn nothing(&self) -> Result<(), ShapeError>;
    fn add(&self, one: u64, other: u64) -> Result<u64, ShapeError>;
    /// The greatest number of words that travel in registers.
    fn six(&self, a: u8, b: i16, c: u32, d: i64, e: bool, f: Colour) -> Result<(bool, Colour, u64), ShapeError>;
    /// More words than fit in registers, both ways.
    fn large(&self, call: Large, answer: Large) -> Result<(Large, Large), ShapeError>;
    fn optional(&self, value: Option<Point>) -> Result<Option<Point>, ShapeError>;
    fn fail(&self, with: u32) -> Result<u64, ShapeError>;
    fn sum(&self, bytes: &[u8]) -> Result<u64, ShapeError>;
    fn count(&self, into: &mut [u8], first: u8) -> Result<(), ShapeError>;
    #[fills]
    fn some(&self, into: &mut [u8], much: u64) -> Result<u64, ShapeError>;
    #[fills]
    fn some_of_three(&self, from: &[u8], beside: &mut [u8], into: &mut [u8]) -> Result<Part, ShapeError>;
    fn letters(&self, text: &str) -> Result<u64, ShapeError>;
    fn points(&self, points: &[Point]) -> Result<Point, ShapeError>;
    fn double(&self, points: &mut [Point]) -> Result<(), ShapeError>;
    #[bound(3000)]
    fn repeat(&self, byte: u8, times: u64) -> Result<Vec<u8>, ShapeError>;
    #[bound(64)]
    fn greet(&self, name: &str) -> Result<String, ShapeError>;
    fn raise(&self, event: Event, bits: u64) -> Result<Event, ShapeError>;
    fn memory(&self, first: u8) -> Result<Paged, ShapeError>;
    fn child(&self, name: u64) -> Result<Cap<dyn Shapes>, ShapeError>;
    fn name(&self) -> Result<u64, ShapeError>;
    /// The name that an object says: of this domain or of another.
    fn name_of(&self, object: Cap<dyn Shapes>) -> Result<(u64, bool), ShapeError>;
    fn pass(&self, object: Cap<dyn Shapes>) -> Result<Cap<dyn Shapes>, ShapeError>;
    /// Not before `nanoseconds` have passed.
    fn slow(&self, nanoseconds: u64) -> Result<(), ShapeError>;
    /// Ends the process.
    fn die(&self) -> Result<(), ShapeError>;
    /// How many children live.
    fn children(&self) -> Result<u64, ShapeError>;
    /// The route over which the call came, plus 1; 0 for none.
    fn route(&self) -> Result<u64, ShapeError>;
    /// Numbers need not be dense.
    #[method(100)]
    fn hundred(&self) -> Result<u64, ShapeError>;
    /// Claims to have filled more than there is.
    #[fills]
    fn boast(&self, into: &mut [u8]) -> Result<u64, ShapeError>;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub enum Colour {
    Red = 1,
    Green = 5,
    Blue = 250,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Plain)]
pub struct Point {
    pub x: i32,
    pub y: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct Large {
    pub address: [u8; 19],
    pub points: [Point; 3],
    pub flag: bool,
    pub colour: Colour,
    pub numbers: [u16; 5],
    pub maybe: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct Part {
    pub filled: u32,
    pub of: u64,
}

impl Fills for Part {
    fn filled(&self) -> u64 {
        self.filled.into()
    }
}

#[derive(Debug, Transfer)]
pub struct Paged {
    pub vmo: Vmo,
    pub offset: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, InterfaceError)]
pub enum ShapeError {
    /// The first.
    First,
    /// The seventh.
    #[code(7)]
    Seventh,
    /// The eighth.
    Eighth,
    /// What happens on the way.
    Transport(TransportError),
}

/// Implements it.
pub struct Shaper {
    name: u64,
    children: Arc<AtomicU64>,
}

impl Shaper {
    pub fn new(name: u64) -> Arc<Shaper> {
        Arc::new(Shaper { name, children: Arc::new(AtomicU64::new(0)) })
    }
}

impl Drop for Shaper {
    fn drop(&mut self) {
        self.children.fetch_sub(1, Ordering::AcqRel);
    }
}

pub const LARGE: Large = Large {
    address: [7; 19],
    points: [Point { x: -1, y: 2 }, Point { x: i32::MIN, y: u16::MAX }, Point { x: i32::MAX, y: 0 }],
    flag: true,
    colour: Colour::Blue,
    numbers: [1, 2, 3, 4, u16::MAX],
    maybe: Some(u64::MAX),
};

impl Shapes for Shaper {
    fn nothing(&self) -> Result<(), ShapeError> {
        Ok(())
    }

    fn add(&self, one: u64, other: u64) -> Result<u64, ShapeError> {
        Ok(one.wrapping_add(other))
    }

    fn six(&self, a: u8, b: i16, c: u32, d: i64, e: bool, f: Colour) -> Result<(bool, Colour, u64), ShapeError> {
        Ok((!e, f, (i64::from(a) + i64::from(b) + i64::from(c)).wrapping_add(d) as u64))
    }

    fn large(&self, call: Large, answer: Large) -> Result<(Large, Large), ShapeError> {
        Ok((answer, call))
    }

    fn optional(&self, value: Option<Point>) -> Result<Option<Point>, ShapeError> {
        Ok(value.map(|point| Point { x: point.y.into(), y: point.x as u16 }))
    }

    fn fail(&self, with: u32) -> Result<u64, ShapeError> {
        Err(match with {
            1 => ShapeError::First,
            7 => ShapeError::Seventh,
            8 => ShapeError::Eighth,
            _ => ShapeError::Transport(TransportError::PeerDied),
        })
    }

    fn sum(&self, bytes: &[u8]) -> Result<u64, ShapeError> {
        Ok(bytes.iter().map(|byte| u64::from(*byte)).sum())
    }

    fn count(&self, into: &mut [u8], first: u8) -> Result<(), ShapeError> {
        if first == 0 {
            into.fill(99);
            return Err(ShapeError::First);
        }
        for (index, byte) in into.iter_mut().enumerate() {
            assert_eq!(*byte, 0, "what is to be filled arrives as zeros");
            *byte = first.wrapping_add(index as u8);
        }
        Ok(())
    }

    fn some(&self, into: &mut [u8], much: u64) -> Result<u64, ShapeError> {
        let much = much.min(into.len() as u64);
        into[..much as usize].fill(1);
        Ok(much)
    }

    fn some_of_three(&self, from: &[u8], beside: &mut [u8], into: &mut [u8]) -> Result<Part, ShapeError> {
        beside.fill(8);
        let filled = from.len().min(into.len());
        into[..filled].copy_from_slice(&from[..filled]);
        Ok(Part { filled: filled as u32, of: from.len() as u64 })
    }

    fn letters(&self, text: &str) -> Result<u64, ShapeError> {
        Ok(text.chars().count() as u64)
    }

    fn points(&self, points: &[Point]) -> Result<Point, ShapeError> {
        let add = |sum: Point, point: &Point| Point { x: sum.x.wrapping_add(point.x), y: sum.y.wrapping_add(point.y) };
        Ok(points.iter().fold(Point::default(), add))
    }

    fn double(&self, points: &mut [Point]) -> Result<(), ShapeError> {
        for point in points {
            *point = Point { x: point.x.wrapping_mul(2), y: point.y.wrapping_mul(2) };
        }
        Ok(())
    }

    fn repeat(&self, byte: u8, times: u64) -> Result<Vec<u8>, ShapeError> {
        Ok(alloc::vec![byte; times.min(5000) as usize])
    }

    fn greet(&self, name: &str) -> Result<String, ShapeError> {
        Ok(alloc::format!("Hello, {name}!"))
    }

    fn raise(&self, event: Event, bits: u64) -> Result<Event, ShapeError> {
        event.raise(bits).map_err(|_| ShapeError::First)?;
        Ok(event)
    }

    fn memory(&self, first: u8) -> Result<Paged, ShapeError> {
        let vmo = Vmo::create(&own::pool(), 8192).map_err(|_| ShapeError::First)?;
        vmo.write(4096, &[first]).map_err(|_| ShapeError::First)?;
        Ok(Paged { vmo, offset: 4096 })
    }

    fn child(&self, name: u64) -> Result<Cap<dyn Shapes>, ShapeError> {
        self.children.fetch_add(1, Ordering::AcqRel);
        Ok(Cap::local(Arc::new(Shaper { name, children: self.children.clone() })))
    }

    fn name(&self) -> Result<u64, ShapeError> {
        Ok(self.name)
    }

    fn name_of(&self, object: Cap<dyn Shapes>) -> Result<(u64, bool), ShapeError> {
        let local = object.local_as::<Shaper>().is_some();
        assert_ne!(local, object.is_remote());
        Ok((object.name()?, local))
    }

    fn pass(&self, object: Cap<dyn Shapes>) -> Result<Cap<dyn Shapes>, ShapeError> {
        Ok(object)
    }

    fn slow(&self, nanoseconds: u64) -> Result<(), ShapeError> {
        let end = own::clock().now().unwrap_or(0) + nanoseconds;
        while own::clock().now().is_ok_and(|now| now < end) {
            let _ = tessera_runtime::object::park(Some(end));
        }
        Ok(())
    }

    fn die(&self) -> Result<(), ShapeError> {
        tessera_runtime::exit(3)
    }

    fn children(&self) -> Result<u64, ShapeError> {
        Ok(self.children.load(Ordering::Acquire))
    }

    fn route(&self) -> Result<u64, ShapeError> {
        Ok(tessera_runtime::server::caller().map_or(0, |route| route + 1))
    }

    fn hundred(&self) -> Result<u64, ShapeError> {
        Ok(100)
    }

    fn boast(&self, into: &mut [u8]) -> Result<u64, ShapeError> {
        Ok(into.len() as u64 + 1)
    }
}

/// Calls every method of an object and checks its answers; `remote` if calls leave the domain. The caller's own domain must have a server.
pub fn check(object: &Cap<dyn Shapes>, remote: bool) {
    assert_eq!(object.nothing(), Ok(()));
    assert_eq!(object.add(u64::MAX, 3), Ok(2));
    assert_eq!(object.six(1, -2, 3, -10, false, Colour::Green), Ok((true, Colour::Green, -8_i64 as u64)));
    let other = Large { maybe: None, flag: false, colour: Colour::Red, ..LARGE };
    assert_eq!(object.large(LARGE, other), Ok((other, LARGE)));
    assert_eq!(object.optional(None), Ok(None));
    assert_eq!(object.optional(Some(Point { x: 4, y: 9 })), Ok(Some(Point { x: 9, y: 4 })));
    assert_eq!(object.fail(1), Err(ShapeError::First));
    assert_eq!(object.fail(7), Err(ShapeError::Seventh));
    assert_eq!(object.fail(8), Err(ShapeError::Eighth));
    assert_eq!(object.fail(9), Err(ShapeError::Transport(TransportError::PeerDied)));
    check_slices(object, remote);
    check_objects(object, remote);
    assert_eq!(object.hundred(), Ok(100));
}

fn check_slices(object: &Cap<dyn Shapes>, remote: bool) {
    for length in [0, 1, 64, 4096, 70_000] {
        assert_eq!(object.sum(&alloc::vec![3; length]), Ok(3 * length as u64));
        let mut into = alloc::vec![0; length];
        assert_eq!(object.count(&mut into, 5), Ok(()));
        assert!(into.iter().enumerate().all(|(index, byte)| *byte == 5_u8.wrapping_add(index as u8)));
    }
    let mut into = [0; 8];
    assert_eq!(object.count(&mut into, 0), Err(ShapeError::First));
    if remote {
        assert_eq!(into, [0; 8], "a method that fails fills nothing");
    }
    let mut into = [7; 8];
    assert_eq!(object.some(&mut into, 3), Ok(3));
    assert_eq!(into, [1, 1, 1, 7, 7, 7, 7, 7]);
    let (mut beside, mut into) = ([0; 3], [0; 4]);
    assert_eq!(object.some_of_three(&[1, 2], &mut beside, &mut into), Ok(Part { filled: 2, of: 2 }));
    assert_eq!((beside, into), ([8; 3], [1, 2, 0, 0]));
    assert_eq!(object.letters("größer"), Ok(6));
    assert_eq!(object.letters(""), Ok(0));
    let mut points = [Point { x: 1, y: 2 }, Point { x: -5, y: 7 }];
    assert_eq!(object.points(&points), Ok(Point { x: -4, y: 9 }));
    assert_eq!(object.double(&mut points), Ok(()));
    assert_eq!(points, [Point { x: 2, y: 4 }, Point { x: -10, y: 14 }]);
    assert_eq!(object.repeat(6, 3000), Ok(alloc::vec![6; 3000]));
    assert_eq!(object.repeat(6, 0), Ok(Vec::new()));
    assert_eq!(object.greet("you").as_deref(), Ok("Hello, you!"));
    if remote {
        let malformed = ShapeError::Transport(TransportError::Malformed);
        assert_eq!(object.repeat(6, 3001), Err(malformed), "more than the bound");
        assert_eq!(object.boast(&mut [0; 4]), Err(malformed), "more than there is");
        let limit = ShapeError::Transport(TransportError::LimitReached);
        let most = tessera_runtime::transport::MAX_SLICE;
        assert_eq!(object.sum(&alloc::vec![0; most + 1]), Err(limit));
        assert_eq!(object.sum(&alloc::vec![1; most]), Ok(most as u64));
    }
}

fn check_objects(object: &Cap<dyn Shapes>, remote: bool) {
    let event = Event::create(&own::pool()).unwrap();
    let back = object.raise(event, 5).unwrap();
    assert_eq!(back.clear(u64::MAX), Ok(5));
    let Paged { vmo, offset } = object.memory(77).unwrap();
    let mut first = [0];
    assert_eq!((vmo.read(offset, &mut first), first), (Ok(1), [77]));
    let child = object.child(31).unwrap();
    assert_eq!((child.is_remote(), child.name(), object.children()), (remote, Ok(31), Ok(1)));
    // To the object's domain its own objects come back as themselves; others are remote there.
    assert_eq!(object.name_of(child.clone()), Ok((31, true)));
    let mine: Cap<dyn Shapes> = Cap::local(Shaper::new(47));
    assert_eq!(object.name_of(mine.clone()), Ok((47, !remote)));
    let passed = object.pass(mine.clone()).unwrap();
    assert_eq!((passed.is_remote(), passed.name()), (false, Ok(47)));
    assert!(Cap::same(&passed, &mine), "to this domain its own object comes back as itself");
    let passed = object.pass(child.clone()).unwrap();
    assert_eq!((passed.is_remote(), passed.name()), (remote, Ok(31)));
    drop((child, passed));
    // The last handle's end is told without a call, in its own time.
    for _ in 0..10_000 {
        if object.children() == Ok(0) {
            return;
        }
        tessera_runtime::object::yield_now();
    }
    panic!("the server keeps an object that nobody has");
}
