//! The body of a list: the objects' stored bytes, or others made of them, between a head and a tail, in chunks made as they
//! are sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::{Bytes, BytesMut};
use navarch_types::Object;

/// A chunk is sent when it has grown to this.
const CHUNK_BYTES: usize = 64 * 1024;

/// What is between head and tail.
enum Items {
    /// Objects in JSON, with commas between them.
    Stored(std::vec::IntoIter<Arc<Object>>),
    /// Bytes that follow each other.
    Made(std::vec::IntoIter<Bytes>),
}

/// A list on its way out.
pub struct ListBody {
    head: Option<Bytes>,
    items: Items,
    first: bool,
    tail: Option<&'static [u8]>,
    size: u64,
}

impl ListBody {
    /// Everything up to the opening bracket of `items`, and the objects.
    pub fn new(head: Bytes, items: Vec<Arc<Object>>) -> Self {
        const TAIL: &[u8] = b"]}";
        let commas = items.len().saturating_sub(1);
        let size = head.len() + items.iter().map(|o| o.served_len()).sum::<usize>() + commas + TAIL.len();
        let items = Items::Stored(items.into_iter());
        Self { head: Some(head), items, first: true, tail: Some(TAIL), size: size as u64 }
    }

    /// What is made already: a head, items, a tail.
    pub fn made(head: Bytes, items: Vec<Bytes>, tail: &'static [u8]) -> Self {
        let size = head.len() + items.iter().map(Bytes::len).sum::<usize>() + tail.len();
        let items = Items::Made(items.into_iter());
        Self { head: Some(head), items, first: true, tail: Some(tail), size: size as u64 }
    }

    /// The number of bytes.
    pub fn len(&self) -> u64 {
        self.size
    }

    /// The next piece, of about [`CHUNK_BYTES`].
    pub fn next_chunk(&mut self) -> Option<Bytes> {
        self.tail?;
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8);
        if let Some(head) = self.head.take() {
            chunk.extend_from_slice(&head);
        }
        while chunk.len() < CHUNK_BYTES {
            if !self.write_item(&mut chunk) {
                chunk.extend_from_slice(self.tail.take().unwrap_or_default());
                break;
            }
        }
        Some(chunk.freeze())
    }

    /// Appends the next item, if there is one.
    fn write_item(&mut self, chunk: &mut BytesMut) -> bool {
        match &mut self.items {
            Items::Stored(objects) => {
                let Some(object) = objects.next() else { return false };
                if !std::mem::take(&mut self.first) {
                    chunk.extend_from_slice(b",");
                }
                object.write_served(chunk);
            }
            Items::Made(items) => {
                let Some(item) = items.next() else { return false };
                chunk.extend_from_slice(&item);
            }
        }
        true
    }
}

impl MessageBody for ListBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.size)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(self.next_chunk().map(Ok))
    }
}

/// A list, compressed on its way.
pub struct GzipListBody {
    list: ListBody,
    encoder: Option<flate2::write::GzEncoder<Vec<u8>>>,
}

impl GzipListBody {
    /// Compresses a list fast rather than well, as upstream does.
    pub fn new(list: ListBody) -> Self {
        Self { list, encoder: Some(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast())) }
    }

    fn next_chunk(&mut self) -> Option<std::io::Result<Bytes>> {
        use std::io::Write as _;
        let mut encoder = self.encoder.take()?;
        while let Some(chunk) = self.list.next_chunk() {
            if let Err(error) = encoder.write_all(&chunk) {
                return Some(Err(error));
            }
            if encoder.get_ref().len() >= CHUNK_BYTES / 2 {
                let out = std::mem::take(encoder.get_mut());
                self.encoder = Some(encoder);
                return Some(Ok(out.into()));
            }
        }
        Some(encoder.finish().map(Bytes::from))
    }
}

impl MessageBody for GzipListBody {
    type Error = std::io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<std::io::Result<Bytes>>> {
        Poll::Ready(self.next_chunk())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::io::Read as _;

    use serde_json::{Value, json};

    use super::*;

    fn list(count: usize) -> ListBody {
        let object = |i: usize| {
            let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("a{i}")}, "data": {"x": "y".repeat(1000)}});
            Arc::new(Object::from_value(&value, 7).unwrap())
        };
        ListBody::new(Bytes::from_static(b"{\"items\":["), (0..count).map(object).collect())
    }

    #[test]
    fn chunks_make_one_document_of_the_announced_size() {
        for count in [0, 1, 500] {
            let mut body = list(count);
            let announced = body.len();
            let mut all = Vec::new();
            while let Some(chunk) = body.next_chunk() {
                all.extend_from_slice(&chunk);
            }
            assert_eq!(all.len() as u64, announced);
            let value: Value = serde_json::from_slice(&all).unwrap();
            assert_eq!(value["items"].as_array().unwrap().len(), count);
        }
    }

    #[test]
    fn compressed_it_is_the_same_document() {
        let mut body = GzipListBody::new(list(500));
        let mut all = Vec::new();
        while let Some(chunk) = body.next_chunk() {
            all.extend_from_slice(&chunk.unwrap());
        }
        let mut text = String::new();
        flate2::read::GzDecoder::new(&all[..]).read_to_string(&mut text).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["items"].as_array().unwrap().len(), 500);
    }
}
