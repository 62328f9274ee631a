//! Core allocates what it says.

use allocation_counter::measure;
use tessera_abi::PAGE;
use tessera_core::{Config, FirstProgram, Frame, Machine};
use tessera_core_testing::FakeHardware;

#[test]
fn core_needs_the_memory_that_it_says() {
    for (frames, processors) in [(1_000, 1), (4_000, 8), (65_536, 4), (300_000, 64)] {
        let free = [20..100, 200..200 + frames];
        let config = || Config { processors, free: &free, held: 100..120 };
        let said = Machine::<FakeHardware>::memory(&config());
        let hardware = FakeHardware::default();
        let mut made = None;
        let taken = measure(|| made = Some(Machine::new(hardware, config()))).bytes_total;
        let mut machine = made.expect("a machine");
        assert!(taken <= said && said - taken < 16 << 10, "{said} bytes for {frames} frames, {taken} were taken");
        // An eighth of the memory was once set aside; the smallest machine has more tables than its share.
        assert!(frames < 10_000 || taken < frames * PAGE / 8, "{taken} bytes for {frames} frames");
        let started = machine.start_first(&FirstProgram {
            segments: &[],
            entry: tessera_abi::NATIVE_BASE,
            level: tessera_abi::Level::User,
            archive: (Frame(100), 20 * PAGE),
            arguments: &[],
            interrupt_lines: 24,
            interrupt_messages: 150,
            devices: 0x10_0000..0x10_0100,
        });
        assert_eq!(started, Ok(()));
    }
}
