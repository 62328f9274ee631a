//! Decompression by what the bytes say, not by what the file is called: gzip, Zstandard, or nothing.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// How the contents of a file are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    None,
    Gzip,
    Zstandard,
    /// One that is not unpacked here: its program's name.
    Foreign(&'static str),
}

impl Packing {
    /// Tells the packing from the first bytes.
    pub fn of(head: &[u8]) -> Self {
        // A skippable frame of Zstandard may come first: its magic number ends in any of sixteen digits.
        let skippable =
            head.first().is_some_and(|first| first & 0xf0 == 0x50) && head.get(1..4) == Some(&[0x2a, 0x4d, 0x18]);
        if head.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || skippable {
            Self::Zstandard
        } else if head.starts_with(b"\xfd7zXZ\0") {
            Self::Foreign("xz")
        } else if head.starts_with(b"BZh") {
            Self::Foreign("bzip2")
        } else {
            Self::None
        }
    }
}

/// Unpacks `from`.
///
/// Errors: those of `from`; `Unsupported` for a packing that is not unpacked here.
pub fn decoded<'a>(mut from: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut head = Vec::new();
    from.by_ref().take(6).read_to_end(&mut head)?;
    let packing = Packing::of(&head);
    let whole = BufReader::with_capacity(1 << 16, Cursor::new(head).chain(from));
    Ok(match packing {
        Packing::None => Box::new(whole),
        Packing::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Packing::Zstandard => Box::new(Frames { source: whole, decoder: FrameDecoder::new(), within: false }),
        Packing::Foreign(program) => {
            let told = format!("it is packed with {program}: unpack it first (`{program} -d FILE`)");
            return Err(io::Error::new(io::ErrorKind::Unsupported, told));
        }
    })
}

/// Zstandard frames one after the other, those to be skipped left out.
struct Frames<R: BufRead> {
    source: R,
    decoder: FrameDecoder,
    /// Whether a frame has begun and not ended.
    within: bool,
}

fn wrong(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("damaged Zstandard data: {error}"))
}

impl<R: BufRead> Frames<R> {
    /// Begins the next frame; false if there is none.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    io::copy(&mut self.source.by_ref().take(u64::from(length)), &mut io::sink())?;
                }
                Err(error) => return Err(wrong(error)),
            }
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !into.is_empty() {
            if !self.within {
                self.within = self.begin()?;
                if !self.within {
                    return Ok(0);
                }
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let strategy = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.source, strategy).map_err(wrong)?;
            }
            let length = self.decoder.read(into)?;
            if length > 0 {
                return Ok(length);
            }
            self.within = !self.decoder.is_finished();
            let (written, computed) = (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum());
            if !self.within && written.is_some() && written != computed {
                return Err(wrong("its checksum differs"));
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write;

    fn all(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        decoded(packed)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn text(seed: u32) -> Vec<u8> {
        (0..300_000u32).map(|at| (at.wrapping_mul(seed) >> 13) as u8).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstandard(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    #[test]
    fn parts_one_after_the_other_are_one_stream() {
        let (one, two) = (text(3), text(7));
        let both = [one.clone(), two.clone()].concat();
        assert_eq!(all(&both).unwrap(), both);
        assert_eq!(all(&[gzip(&one), gzip(&two)].concat()).unwrap(), both);
        let skippable = [0x5au8, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let skipped = [skippable.as_slice(), &zstandard(&one)].concat();
        assert_eq!(all(&[skipped.clone(), zstandard(&two)].concat()).unwrap(), both);
        assert_eq!(all(&[zstandard(&one), skipped, zstandard(b"")].concat()).unwrap(), [one.clone(), one].concat());
    }

    #[test]
    fn damage_is_an_error_and_other_packings_name_their_program() {
        for packed in [gzip(&text(3)), zstandard(&text(3))] {
            assert!(all(&packed[..packed.len() / 2]).is_err());
            let mut spoiled = packed.clone();
            for byte in &mut spoiled[20..200] {
                *byte ^= 0x5a;
            }
            assert!(all(&spoiled).is_err());
        }
        let told = all(b"\xfd7zXZ\0rest").unwrap_err().to_string();
        assert!(told.contains("xz -d"), "{told}");
        assert_eq!(all(b"").unwrap(), b"");
    }
}
