import KeyValue
import KeyValueService
import NIOCore

/// Writes Server-Sent Events (HTML Living Standard §9.2), and cuts them into chunks where the connection goes on behind them.
struct EventStreamWriter {
    let isChunked: Bool
    private var buffer = ByteBuffer()

    init(isChunked: Bool) { self.isChunked = isChunked }

    private mutating func frame(id: UInt64?, event: StaticString, data: ByteBuffer) {
        if let id {
            buffer.writeStaticString("id: ")
            buffer.writeDecimal(id)
            buffer.writeStaticString("\n")
        }
        buffer.writeStaticString("event: ")
        buffer.writeStaticString(event)
        buffer.writeStaticString("\ndata: ")
        // One line: what JSON escapes are the line ends, too.
        buffer.writeImmutableBuffer(data)
        buffer.writeStaticString("\n\n")
    }

    mutating func append(_ event: Event, of space: EventFilter.Space) {
        var json = JSONWriter(capacity: 192 + event.item.value.count + (event.previous?.value.count ?? 0))
        switch space {
        case .keys: json.change(event)
        case .locks: json.lockChange(event)
        }
        frame(id: event.revision, event: event.kind.text, data: json.buffer)
    }

    /// Everything up to `revision` was sent.
    mutating func appendProgress(_ revision: UInt64) {
        var json = JSONWriter(capacity: 64)
        json.beginObject()
        json.member("revision", revision)
        json.endObject()
        frame(id: revision, event: "progress", data: json.buffer)
    }

    /// The last one. `resume` is where another watch can go on.
    mutating func appendEnd(_ problem: Problem, name: StaticString, resume: UInt64?) {
        frame(id: resume, event: name, data: problem.document(leader: nil))
    }

    mutating func appendHeartbeat() { buffer.writeStaticString(":\n\n") }

    /// What was appended, as it goes out.
    mutating func take() -> ByteBuffer {
        defer { buffer = ByteBuffer() }
        guard isChunked, buffer.readableBytes > 0 else { return buffer }
        var chunk = ByteBuffer()
        chunk.reserveCapacity(buffer.readableBytes + 20)
        chunk.writeString(String(buffer.readableBytes, radix: 16))
        chunk.writeStaticString("\r\n")
        chunk.writeImmutableBuffer(buffer)
        chunk.writeStaticString("\r\n")
        return chunk
    }

    /// What ends the body.
    var end: ByteBuffer { isChunked ? ByteBuffer(staticString: "0\r\n\r\n") : ByteBuffer() }
}

extension Event.Kind {
    fileprivate var text: StaticString {
        switch self {
        case .put: "put"
        case .delete: "delete"
        case .expire: "expire"
        }
    }
}

extension JSONWriter {
    /// The item; for a key that went `{"key","mod_revision"}`. With `previous`, where that is known.
    fileprivate mutating func change(_ event: Event) {
        beginObject()
        if event.kind == .put {
            fields(event.item)
        } else {
            bytes(event.item.key, text: "key", base64: "key_base64")
            member("mod_revision", event.revision)
        }
        if let previous = event.previous { item(previous, as: "previous") }
        endObject()
    }

    /// The lock; for one that is free now `{"name","mod_revision"}`.
    fileprivate mutating func lockChange(_ event: Event) {
        beginObject()
        if event.kind == .put, let status = LockStatus(event.item) {
            lockFields(status)
        } else {
            name("name")
            Array(event.item.key).withUnsafeBytes { value(utf8: $0) }
        }
        member("mod_revision", event.revision)
        if let previous = event.previous.flatMap({ LockStatus($0) }) {
            name("previous")
            lock(previous)
        }
        endObject()
    }
}
