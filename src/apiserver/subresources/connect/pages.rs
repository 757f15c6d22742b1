//! The body of a proxied page, rewritten as it streams by, in the coding that it came in.

use super::links::{Links, Pages};
use axum::BoxError;
use axum::body::{Body, Bytes};
use flate2::Compression;
use flate2::write::{DeflateDecoder, DeflateEncoder, GzEncoder, MultiGzDecoder};
use futures::{StreamExt, TryStreamExt, future, stream};
use std::io::{self, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Plain,
    Gzip,
    /// Without a head, as the proxy of Kubernetes takes it.
    Deflate,
}

/// Bytes in, what is ready out.
trait Stage: Send {
    fn push(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>>;
    fn finish(self: Box<Self>) -> io::Result<Vec<u8>>;
}

struct Plain;

impl Stage for Plain {
    fn push(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        Ok(bytes.to_vec())
    }

    fn finish(self: Box<Self>) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }
}

macro_rules! stages {
    ($($stage:ident)*) => {$(
        impl Stage for $stage<Vec<u8>> {
            fn push(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
                self.write_all(bytes)?;
                Ok(std::mem::take(self.get_mut()))
            }

            fn finish(self: Box<Self>) -> io::Result<Vec<u8>> {
                (*self).finish()
            }
        }
    )*};
}

stages!(MultiGzDecoder GzEncoder DeflateDecoder DeflateEncoder);

struct Rewriter {
    decoder: Box<dyn Stage>,
    pages: Pages,
    encoder: Box<dyn Stage>,
}

impl Rewriter {
    fn new(links: Links, coding: Coding) -> Self {
        let level = Compression::default();
        let (decoder, encoder): (Box<dyn Stage>, Box<dyn Stage>) = match coding {
            Coding::Plain => (Box::new(Plain), Box::new(Plain)),
            Coding::Gzip => (Box::new(MultiGzDecoder::new(Vec::new())), Box::new(GzEncoder::new(Vec::new(), level))),
            Coding::Deflate => {
                (Box::new(DeflateDecoder::new(Vec::new())), Box::new(DeflateEncoder::new(Vec::new(), level)))
            }
        };
        Self { decoder, pages: Pages::new(links), encoder }
    }

    fn push(&mut self, chunk: &[u8]) -> io::Result<Vec<u8>> {
        let read = self.decoder.push(chunk)?;
        self.encoder.push(&self.pages.push(&read))
    }

    fn finish(mut self) -> io::Result<Vec<u8>> {
        let mut page = self.pages.push(&self.decoder.finish()?);
        page.extend(self.pages.finish());
        let mut coded = self.encoder.push(&page)?;
        coded.extend(self.encoder.finish()?);
        Ok(coded)
    }
}

/// The same page with its links through the proxy.
pub fn rewritten(body: Body, links: Links, coding: Coding) -> Body {
    let chunks = body.into_data_stream().map_ok(Some).map_err(BoxError::from);
    let end = stream::once(future::ready(Ok(None)));
    let mut rewriter = Some(Rewriter::new(links, coding));
    let rewritten = chunks.chain(end).map(move |chunk: Result<Option<Bytes>, BoxError>| {
        let chunk = chunk?;
        let bytes = match (chunk, rewriter.as_mut()) {
            (Some(chunk), Some(rewriter)) => rewriter.push(&chunk)?,
            _ => rewriter.take().map(Rewriter::finish).transpose()?.unwrap_or_default(),
        };
        Ok::<Bytes, BoxError>(bytes.into())
    });
    Body::from_stream(rewritten.try_filter(|bytes| future::ready(!bytes.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "<a href=\"/rewriteme\">test</a>";
    const REWRITTEN: &[u8] = b"<a href=\"/p/proxy/rewriteme\">test</a>";

    async fn check(coding: Coding, code: fn(&[u8]) -> Vec<u8>, read: fn(&[u8]) -> Vec<u8>) {
        let links = Links { prefix: "/p/proxy".into(), behind: "10.42.0.9:80".into(), asked: "api".into() };
        let coded = code(PAGE.as_bytes());
        let chunks: Vec<io::Result<Bytes>> = coded.chunks(5).map(|chunk| Ok(chunk.to_vec().into())).collect();
        let body = rewritten(Body::from_stream(stream::iter(chunks)), links, coding);
        let bytes = axum::body::to_bytes(body, 1 << 16).await.expect("a body");
        assert_eq!(read(&bytes), REWRITTEN, "{coding:?}");
    }

    fn through(mut stage: impl Stage + 'static, bytes: &[u8]) -> Vec<u8> {
        let mut out = stage.push(bytes).expect("coded");
        out.extend(Box::new(stage).finish().expect("coded"));
        out
    }

    #[tokio::test]
    async fn pages_keep_their_coding() {
        check(Coding::Plain, <[u8]>::to_vec, <[u8]>::to_vec).await;
        check(
            Coding::Gzip,
            |page| through(GzEncoder::new(Vec::new(), Compression::fast()), page),
            |coded| through(MultiGzDecoder::new(Vec::new()), coded),
        )
        .await;
        check(
            Coding::Deflate,
            |page| through(DeflateEncoder::new(Vec::new(), Compression::fast()), page),
            |coded| through(DeflateDecoder::new(Vec::new()), coded),
        )
        .await;
    }
}
