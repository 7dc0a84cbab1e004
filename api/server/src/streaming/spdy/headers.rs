//! Header blocks: counted names and values, in a zlib stream with the protocol's dictionary, one stream for all blocks of a
//! direction.
//!
//! What is written is not compressed: the few short headers of a stream go into stored blocks of a stream that says it has
//! the dictionary. What is read may use the dictionary; it is put into the decompressor's window as a stored block before
//! the first of the peer's.

use bytes::{Buf, BufMut, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};

use super::{Headers, SpdyError};

/// A header block unpacked is never longer.
const BLOCK_BYTES_MAX: usize = 64 * 1024;

/// The names that the dictionary starts with, each with its length before it.
const DICTIONARY_NAMES: &str = "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|\
    accept-ranges|age|allow|authorization|cache-control|connection|content-base|content-encoding|content-language|\
    content-length|content-location|content-md5|content-range|content-type|date|etag|expect|expires|from|host|if-match|\
    if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|location|max-forwards|pragma|\
    proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|upgrade|\
    user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|public|set-cookie|\
    keep-alive|origin";

/// The rest of it: what often occurs in values.
const DICTIONARY_TEXT: &str = "1001012012022052063003023033043053063074024054064074084094104114124134144154164175025045\
    05203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 \
    Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul \
    Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
    application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,\
    sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/// The dictionary of SPDY/3.
fn dictionary() -> Vec<u8> {
    let mut out = Vec::with_capacity(1423);
    for name in DICTIONARY_NAMES.split('|') {
        out.put_u32(u32::try_from(name.len()).unwrap_or_default());
        out.put_slice(name.as_bytes());
    }
    out.put_slice(DICTIONARY_TEXT.as_bytes());
    out
}

/// Adler-32 of the dictionary, which a stream that uses it carries behind its head.
const DICTIONARY_ID: u32 = 0xe3c6_a7c2;
/// The head of a zlib stream with a dictionary: deflate, a window of 32 KiB.
const ZLIB_HEAD: [u8; 2] = [0x78, 0xbb];
/// The bit in the second byte of the head that tells of a dictionary.
const HAS_DICTIONARY: u8 = 0x20;
/// An empty stored block. Go's decompressor hands on what it has when it meets one.
const FLUSH: [u8; 5] = [0, 0, 0, 0xff, 0xff];

const FAILED: SpdyError = SpdyError::Headers("cannot be decompressed");
const CUT: SpdyError = SpdyError::Headers("cut short");
const LONG: SpdyError = SpdyError::Headers("too long");

/// A stored block that is not the last.
fn stored(content: &[u8], out: &mut impl BufMut) -> Result<(), SpdyError> {
    let length = u16::try_from(content.len()).map_err(|_| LONG)?;
    out.put_u8(0);
    out.put_u16_le(length);
    out.put_u16_le(!length);
    out.put_slice(content);
    Ok(())
}

#[derive(Default)]
pub(super) struct HeaderWriter {
    begun: bool,
}

impl HeaderWriter {
    pub(super) fn write(&mut self, headers: &Headers, out: &mut BytesMut) -> Result<(), SpdyError> {
        let mut block = Vec::new();
        let count = |n: usize| u32::try_from(n).map_err(|_| LONG);
        block.put_u32(count(headers.len())?);
        for (name, value) in headers {
            block.put_u32(count(name.len())?);
            block.put_slice(name.to_ascii_lowercase().as_bytes());
            block.put_u32(count(value.len())?);
            block.put_slice(value.as_bytes());
        }
        if block.len() > BLOCK_BYTES_MAX {
            return Err(LONG);
        }
        if !self.begun {
            out.put_slice(&ZLIB_HEAD);
            out.put_u32(DICTIONARY_ID);
            self.begun = true;
        }
        for piece in block.chunks(usize::from(u16::MAX)) {
            stored(piece, out)?;
        }
        out.put_slice(&FLUSH);
        Ok(())
    }
}

pub(super) struct HeaderReader {
    /// Without zlib's head, which is looked at here.
    deflate: Decompress,
    begun: bool,
}

impl HeaderReader {
    pub(super) fn new() -> Self {
        Self { deflate: Decompress::new(false), begun: false }
    }

    pub(super) fn read(&mut self, packed: &[u8]) -> Result<Headers, SpdyError> {
        let packed = if self.begun { packed } else { self.begin(packed)? };
        let block = self.unpack(packed)?;
        let mut block = block.as_slice();
        let number = |block: &mut &[u8]| if block.len() < 4 { Err(CUT) } else { Ok(block.get_u32() as usize) };
        let text = |block: &mut &[u8], length: usize| {
            let (taken, rest) = block.split_at_checked(length).ok_or(CUT)?;
            *block = rest;
            String::from_utf8(taken.to_vec()).map_err(|_| SpdyError::Headers("no UTF-8"))
        };
        let count = number(&mut block)?;
        let mut headers = Headers::new();
        for _ in 0..count {
            let length = number(&mut block)?;
            let name = text(&mut block, length)?;
            let length = number(&mut block)?;
            headers.push((name, text(&mut block, length)?));
        }
        Ok(headers)
    }

    /// Takes the head off the first block, and puts the dictionary into the window if the peer uses it.
    fn begin<'a>(&mut self, packed: &'a [u8]) -> Result<&'a [u8], SpdyError> {
        let (head, mut rest) = packed.split_at_checked(2).ok_or(CUT)?;
        if head[0] & 0x0f != 8 {
            return Err(SpdyError::Headers("not zlib"));
        }
        if head[1] & HAS_DICTIONARY != 0 {
            if rest.len() < 4 {
                return Err(CUT);
            }
            if rest.get_u32() != DICTIONARY_ID {
                return Err(SpdyError::Headers("another dictionary"));
            }
            let mut primer = Vec::new();
            stored(&dictionary(), &mut primer)?;
            self.unpack(&primer)?;
        }
        self.begun = true;
        Ok(rest)
    }

    fn unpack(&mut self, packed: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let (mut rest, mut out) = (packed, Vec::new());
        loop {
            let mut space = [0; 4096];
            let (read, written) = (self.deflate.total_in(), self.deflate.total_out());
            let status = self.deflate.decompress(rest, &mut space, FlushDecompress::Sync).map_err(|_| FAILED)?;
            let (read, written) = (self.deflate.total_in() - read, self.deflate.total_out() - written);
            rest = rest.get(usize::try_from(read).unwrap_or_default()..).unwrap_or_default();
            let written = usize::try_from(written).unwrap_or_default();
            out.extend_from_slice(&space[..written]);
            if out.len() > BLOCK_BYTES_MAX {
                return Err(LONG);
            }
            if status == Status::StreamEnd {
                return Err(SpdyError::Headers("the stream of headers has ended"));
            }
            // Room left means that everything there was has come out.
            if rest.is_empty() && written < space.len() {
                return Ok(out);
            }
            // It may put out what it had before it reads on, so only doing neither is standing still.
            if read == 0 && written == 0 {
                return Err(FAILED);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    /// Compresses with the dictionary, as peers do: what the primer made the compressor put out is left away.
    struct Peer {
        zlib: Compress,
        begun: bool,
    }

    impl Peer {
        fn new() -> Self {
            let mut zlib = Compress::new(Compression::default(), false);
            let mut space = vec![0; 4096];
            zlib.compress(&dictionary(), &mut space, FlushCompress::Sync).unwrap();
            Self { zlib, begun: false }
        }

        fn write(&mut self, block: &[u8]) -> Vec<u8> {
            let mut out = Vec::new();
            if !std::mem::replace(&mut self.begun, true) {
                out.extend_from_slice(&ZLIB_HEAD);
                out.put_u32(DICTIONARY_ID);
            }
            let mut space = vec![0; block.len() + 4096];
            let before = self.zlib.total_out();
            self.zlib.compress(block, &mut space, FlushCompress::Sync).unwrap();
            out.extend_from_slice(&space[..usize::try_from(self.zlib.total_out() - before).unwrap()]);
            out
        }
    }

    fn block(headers: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32(headers.len() as u32);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            out.put_u32(text.len() as u32);
            out.put_slice(text.as_bytes());
        }
        out
    }

    #[test]
    fn the_dictionary_is_the_protocol_s() {
        let (mut a, mut b) = (1_u32, 0_u32);
        for byte in dictionary() {
            a = (a + u32::from(byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        assert_eq!((dictionary().len(), b << 16 | a), (1423, DICTIONARY_ID));
        assert_eq!(u16::from_be_bytes(ZLIB_HEAD) % 31, 0);
    }

    #[test]
    fn what_peers_compress_with_the_dictionary_is_read() {
        let (mut peer, mut reader) = (Peer::new(), HeaderReader::new());
        for value in ["application/xhtml+xml", "stdout", "stdout", &"x".repeat(9_000)] {
            let packed = peer.write(&block(&[("content-type", value), ("streamtype", "stdin")]));
            assert!(packed.len() < 200, "the dictionary is of use: {}", packed.len());
            let read = reader.read(&packed).unwrap();
            assert_eq!(read, [("content-type".to_owned(), value.to_owned()), ("streamtype".into(), "stdin".into())]);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let (mut writer, mut reader) = (HeaderWriter::default(), HeaderReader::new());
        for length in [0, 1, 5_000, 40_000] {
            let headers = vec![("streamtype".to_owned(), "x".repeat(length)), ("b".to_owned(), String::new())];
            let mut out = BytesMut::new();
            writer.write(&headers, &mut out).unwrap();
            assert_eq!(reader.read(&out).unwrap(), headers);
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for bad in [&b""[..], b"x", b"nonsense", &[0x78, 0xbb, 1, 2, 3, 4], &[0x78, 0xbb, 1]] {
            assert!(HeaderReader::new().read(bad).is_err(), "{bad:?}");
        }
        let long = vec![("a".to_owned(), "x".repeat(BLOCK_BYTES_MAX))];
        assert!(HeaderWriter::default().write(&long, &mut BytesMut::new()).is_err());
        assert_eq!(HeaderReader::new().read(&Peer::new().write(&vec![0; 1 << 20])), Err(LONG));
        let mut cut = block(&[("a", "b")]);
        cut.pop();
        assert_eq!(HeaderReader::new().read(&Peer::new().write(&cut)), Err(CUT));
        assert_eq!(HeaderReader::new().read(&Peer::new().write(&[0xff; 4])), Err(CUT));
    }
}
