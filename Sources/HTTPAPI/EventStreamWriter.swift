import KeyValue
import KeyValueService
import NIOCore

/// A place in a stream of changes, as a client names it that was cut off.
///
/// `R` is the place behind all events of revision R; `R.i` that behind the first i of them which the filter lets through, where more
/// follow. All nodes tell the events of a revision in the order of their keys, so for one filter that is the same place everywhere.
struct EventID: Hashable, Sendable {
    /// The last revision of which everything was seen.
    var after: UInt64
    /// How many events of the revision behind it were seen.
    var seen = 0

    init(after: UInt64, seen: Int = 0) {
        self.after = after
        self.seen = seen
    }

    /// nil for what ``EventStreamWriter`` never writes.
    init?(_ text: String) {
        let parts = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        let areDigits = parts.allSatisfy { $0.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } }
        guard areDigits, parts.count <= 2, let revision = UInt64(Substring(parts[0])) else { return nil }
        guard parts.count == 2 else {
            self.init(after: revision)
            return
        }
        guard revision > 0, let seen = Int(Substring(parts[1])), seen > 0 else { return nil }
        self.init(after: revision - 1, seen: seen)
    }
}

/// Writes Server-Sent Events (HTML Living Standard §9.2), and cuts them into chunks where the connection goes on behind them.
struct EventStreamWriter {
    let isChunked: Bool
    private var buffer = ByteBuffer()

    init(isChunked: Bool) { self.isChunked = isChunked }

    private mutating func frame(id: EventID?, event: StaticString, data: ByteBuffer) {
        if let id {
            buffer.writeStaticString("id: ")
            if id.seen == 0 {
                buffer.writeDecimal(id.after)
            } else {
                buffer.writeDecimal(id.after + 1)
                buffer.writeStaticString(".")
                buffer.writeDecimal(UInt64(id.seen))
            }
            buffer.writeStaticString("\n")
        }
        buffer.writeStaticString("event: ")
        buffer.writeStaticString(event)
        buffer.writeStaticString("\ndata: ")
        // One line: what JSON escapes are the line ends, too.
        buffer.writeImmutableBuffer(data)
        buffer.writeStaticString("\n\n")
    }

    /// Writes what a watch handed over, whole revisions, without what was seen at `start`, where the stream began.
    mutating func append(_ events: [Event], of space: EventFilter.Space, behind start: EventID) {
        var ordinal = 0
        for (index, event) in events.enumerated() {
            let isFirst = index == 0 || events[index - 1].revision != event.revision
            let isLast = index + 1 == events.count || events[index + 1].revision != event.revision
            ordinal = isFirst ? 1 : ordinal + 1
            let before = event.revision - 1
            if before == start.after, ordinal <= start.seen { continue }
            let id = isLast ? EventID(after: event.revision) : EventID(after: before, seen: ordinal)
            append(event, id: id, of: space)
        }
    }

    private mutating func append(_ event: Event, id: EventID, of space: EventFilter.Space) {
        var json = JSONWriter(capacity: 192 + event.item.value.count + (event.previous?.value.count ?? 0))
        switch space {
        case .keys: json.change(event)
        case .locks: json.lockChange(event)
        }
        frame(id: id, event: event.kind.text, data: json.buffer)
    }

    /// Everything up to `place` was sent.
    mutating func appendProgress(_ place: EventID) {
        var json = JSONWriter(capacity: 64)
        json.beginObject()
        json.member("revision", place.after)
        json.endObject()
        frame(id: place, event: "progress", data: json.buffer)
    }

    /// The last one. `resume` is where another watch can go on.
    mutating func appendEnd(_ problem: Problem, name: StaticString, resume: EventID?) {
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
