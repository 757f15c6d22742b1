//! Spans as an `ExportTraceServiceRequest` of OpenTelemetry, in one frame of gRPC.

use super::{Span, Value};
use std::time::{SystemTime, UNIX_EPOCH};

const SERVICE: &str = "apiserver";
const SCOPE: &str = "orch";
/// `STATUS_CODE_ERROR`
const ERROR: u64 = 2;

/// A message of protobuf under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn fixed64(&mut self, field: u64, value: u64) {
        self.varint(field << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn fixed32(&mut self, field: u64, value: u32) {
        self.varint(field << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn message(&mut self, field: u64, build: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        build(&mut inner);
        self.bytes(field, &inner.0);
    }

    fn attribute(&mut self, field: u64, key: &str, value: &Value) {
        self.message(field, |pair| {
            pair.bytes(1, key.as_bytes());
            pair.message(2, |any| match value {
                Value::Text(text) => any.bytes(1, text.as_bytes()),
                Value::Number(number) => any.number(3, number.cast_unsigned()),
            });
        });
    }

    fn span(&mut self, span: &Span) {
        let state = |message: &mut Self, context: &super::Context| {
            if let Some(state) = &context.state {
                message.bytes(3, state.as_bytes());
            }
        };
        self.bytes(1, &span.context.trace);
        self.bytes(2, &span.context.span);
        state(self, &span.context);
        if let Some(parent) = &span.parent {
            self.bytes(4, parent);
        }
        self.bytes(5, span.name.as_bytes());
        self.number(6, span.kind as u64);
        self.fixed64(7, nanoseconds(span.start));
        self.fixed64(8, nanoseconds(span.end));
        for (key, value) in &span.attributes {
            self.attribute(9, key, value);
        }
        if let Some(link) = &span.link {
            self.message(13, |message| {
                message.bytes(1, &link.trace);
                message.bytes(2, &link.span);
                state(message, link);
            });
        }
        if span.failed {
            self.message(15, |status| status.number(3, ERROR));
        }
        self.fixed32(16, span.context.flags.into());
    }
}

fn nanoseconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// The frame that carries these spans: not compressed, its length, the message.
pub fn frame(instance: &str, spans: &[Box<Span>]) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |resource_spans| {
        resource_spans.message(1, |resource| {
            resource.attribute(1, "service.name", &Value::Text(SERVICE.to_owned()));
            resource.attribute(1, "service.instance.id", &Value::Text(instance.to_owned()));
        });
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| scope.bytes(1, SCOPE.as_bytes()));
            for span in spans {
                scope_spans.message(2, |message| message.span(span));
            }
        });
    });
    let length = u32::try_from(request.0.len()).expect("a batch is bounded");
    [&[0], &length.to_be_bytes()[..], &request.0].concat()
}

#[cfg(test)]
mod tests {
    use super::super::{Context, Kind};
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_frame_is_what_a_collector_reads() {
        let context = Context { trace: [1; 16], span: [2; 8], flags: 1, state: None };
        let span = Span {
            parent: Some([3; 8]),
            link: None,
            name: "n".to_owned(),
            kind: Kind::Server,
            start: UNIX_EPOCH + Duration::from_nanos(5),
            end: UNIX_EPOCH + Duration::from_nanos(6),
            attributes: vec![("a", Value::Number(300))],
            failed: true,
            context,
        };
        let frame = frame("i", &[Box::new(span)]);
        let message = &frame[5..];
        assert_eq!(frame[0], 0);
        assert_eq!(u32::from_be_bytes(frame[1..5].try_into().expect("four bytes")) as usize, message.len());
        let mut span = vec![0x0a, 16];
        span.extend([1; 16]);
        span.extend([0x12, 8]);
        span.extend([2; 8]);
        span.extend([0x22, 8]);
        span.extend([3; 8]);
        span.extend(*b"\x2a\x01n\x30\x02");
        span.extend(*b"\x39\x05\0\0\0\0\0\0\0\x41\x06\0\0\0\0\0\0\0");
        span.extend(*b"\x4a\x08\x0a\x01a\x12\x03\x18\xac\x02");
        span.extend(*b"\x7a\x02\x18\x02\x85\x01\x01\0\0\0");
        assert!(message.ends_with(&span), "{message:02x?}");
        assert!(message.windows(9).any(|part| part == b"apiserver"));
    }
}
