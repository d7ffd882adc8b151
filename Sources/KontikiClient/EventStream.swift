internal import FoundationEssentials
internal import NIOCore

/// One event of a stream of Server-Sent Events.
struct EventFrame: Hashable {
    /// `message` when the node named none.
    var name = "message"
    /// What a resume sends back.
    var id: String?
    var data = ""

    /// The change that it tells of; nil for one that tells of none.
    func event() throws(ClientError) -> KontikiClient.WatchEvent? {
        guard let kind = KontikiClient.WatchEvent.Kind(rawValue: name) else {
            guard name == "progress" || name == "message" else { throw ending }
            return nil
        }
        do {
            let document = try JSONDecoder().decode(EventDocument.self, from: Data(data.utf8))
            guard let key = document.keyBytes, let revision = document.modRevision else { throw malformed }
            return KontikiClient.WatchEvent(
                kind: kind,
                revision: revision,
                key: Key(bytes: key),
                value: document.valueBytes ?? [],
                previous: document.previous?.valueBytes,
                document: data
            )
        } catch let error as ClientError {
            throw error
        } catch {
            throw malformed
        }
    }

    /// The revision up to which everything was sent; nil when it says nothing of that.
    func progress() throws(ClientError) -> UInt64? {
        guard name == "progress" else { return nil }
        guard let document = try? JSONDecoder().decode(ProgressDocument.self, from: Data(data.utf8)) else {
            throw malformed
        }
        return document.revision
    }

    private var malformed: ClientError {
        ClientError(
            .badAnswer,
            "the watch sent what no Kontiki node sends: \(Printable.shown("\(name) \(data.prefix(200))"))"
        )
    }

    /// What an event of another name says: the node ends the watch.
    private var ending: ClientError {
        let problem = try? JSONDecoder().decode(Problem.self, from: Data(data.utf8))
        let isCompacted = name == "compacted"
        return ClientError(
            isCompacted ? .compacted : .unavailable,
            problemType: problem?.type,
            Printable.shown(problem?.detail ?? "the node ended the watch (\(name)): \(data.prefix(200))")
        )
    }
}

private struct ProgressDocument: Decodable {
    var revision: UInt64
}

/// An event's data: an item, or for a lock its state.
private struct EventDocument: Decodable {
    struct Previous: Decodable {
        var value: String?
        var valueBase64: String?

        enum CodingKeys: String, CodingKey {
            case value
            case valueBase64 = "value_base64"
        }

        var valueBytes: [UInt8]? { bytes(value, valueBase64) }
    }

    var key: String?
    var keyBase64: String?
    /// A lock's.
    var name: String?
    var value: String?
    var valueBase64: String?
    var modRevision: UInt64?
    var previous: Previous?

    enum CodingKeys: String, CodingKey {
        case key
        case keyBase64 = "key_base64"
        case name, value
        case valueBase64 = "value_base64"
        case modRevision = "mod_revision"
        case previous
    }

    var keyBytes: [UInt8]? { bytes(key ?? name, keyBase64) }
    var valueBytes: [UInt8]? { bytes(value, valueBase64) }
}

/// Cuts a byte stream into events (HTML Living Standard §9.2.6), from pieces cut anywhere.
struct EventStreamParser {
    /// No line is longer: the largest value as base64, with the one before it.
    private static let maximumLineLength = 64 << 20

    private var line: [UInt8] = []
    private var frame = EventFrame()
    private var hasData = false
    private var endedWithReturn = false

    /// The events that end in `piece`.
    mutating func take(_ piece: ByteBuffer) throws(ClientError) -> [EventFrame] {
        var frames: [EventFrame] = []
        for byte in piece.readableBytesView {
            switch byte {
            case UInt8(ascii: "\n") where endedWithReturn: endedWithReturn = false
            case UInt8(ascii: "\n"), UInt8(ascii: "\r"):
                endedWithReturn = byte == UInt8(ascii: "\r")
                if let frame = endLine() { frames.append(frame) }
            default:
                endedWithReturn = false
                line.append(byte)
                guard line.count <= Self.maximumLineLength else {
                    throw ClientError(.badAnswer, "the watch sent a line without an end")
                }
            }
        }
        return frames
    }

    private mutating func endLine() -> EventFrame? {
        defer { line.removeAll(keepingCapacity: true) }
        guard !line.isEmpty else {
            defer { (frame, hasData) = (EventFrame(), false) }
            return hasData || frame.name != "message" ? frame : nil
        }
        let colon = line.firstIndex(of: UInt8(ascii: ":")) ?? line.endIndex
        var value = line[colon...].dropFirst()
        if value.first == UInt8(ascii: " ") { value = value.dropFirst() }
        let text = String(decoding: value, as: UTF8.self)
        switch String(decoding: line[..<colon], as: UTF8.self) {
        case "event": frame.name = text
        case "id": frame.id = text
        case "data":
            frame.data += hasData ? "\n" + text : text
            hasData = true
        default: break
        }
        return nil
    }
}
