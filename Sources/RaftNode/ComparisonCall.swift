internal import Raft

/// What servers say to each other to compare their states; carried by the transport's control requests.
enum ComparisonCall: Hashable, Sendable {
    /// The leader asks for the notes, and says what it knows of differences that no majority decides; empty for none.
    case notes(term: Term, alarm: String)
    /// The leader found that the receiver's state differs at an index from that of a majority.
    case differs(term: Term, index: LogIndex, hash: [UInt8], expected: [UInt8])

    // NodeCall has the kinds below 32.
    private static let notesKind: UInt8 = 32
    private static let differsKind: UInt8 = 33

    func encode() -> [UInt8] {
        var writer = ByteWriter()
        switch self {
        case .notes(let term, let alarm):
            writer.write(Self.notesKind)
            writer.write(term)
            writer.write(String(alarm.prefix(4_000)))
        case .differs(let term, let index, let hash, let expected):
            writer.write(Self.differsKind)
            writer.write(term)
            writer.write(index)
            writer.write(counted: hash)
            writer.write(counted: expected)
        }
        return writer.bytes
    }

    init?(decoding bytes: [UInt8]) {
        var reader = ByteReader(bytes)
        guard let kind = reader.read(UInt8.self), kind == Self.notesKind || kind == Self.differsKind,
            let term = reader.read(UInt64.self)
        else { return nil }
        if kind == Self.notesKind {
            guard let alarm = reader.readString() else { return nil }
            self = .notes(term: term, alarm: alarm)
        } else {
            guard let index = reader.read(UInt64.self), let hash = reader.readHash(), let expected = reader.readHash()
            else { return nil }
            self = .differs(term: term, index: index, hash: hash, expected: expected)
        }
        guard reader.isAtEnd else { return nil }
    }

    /// The answer to ``notes(term:alarm:)``.
    struct Answer: Hashable, Sendable {
        /// The format of the answer, and the way of making hashes.
        private static let version: UInt8 = 1

        /// A server in quarantine is known to differ.
        var isQuarantined = false
        var notes: [StateNote] = []

        init(isQuarantined: Bool, notes: [StateNote]) {
            self.isQuarantined = isQuarantined
            self.notes = notes
        }

        func encode() -> [UInt8] {
            var writer = ByteWriter()
            writer.write(Self.version)
            writer.write(UInt8(isQuarantined ? 1 : 0))
            writer.write(UInt16(notes.count))
            for note in notes {
                writer.write(note.index)
                writer.write(counted: note.hash)
            }
            return writer.bytes
        }

        /// Nil for what is malformed, and for hashes of another kind, which say nothing.
        init?(decoding bytes: [UInt8]) {
            var reader = ByteReader(bytes)
            guard reader.read(UInt8.self) == Self.version, let flag = reader.read(UInt8.self),
                let count = reader.read(UInt16.self), Int(count) <= StateNotes.capacity
            else { return nil }
            isQuarantined = flag == 1
            for _ in 0..<count {
                guard let index = reader.read(UInt64.self), let hash = reader.readHash() else { return nil }
                notes.append(StateNote(index: index, hash: hash))
            }
            guard reader.isAtEnd else { return nil }
        }
    }
}

extension ByteWriter {
    /// At most 64 bytes.
    fileprivate mutating func write(counted hash: [UInt8]) {
        let hash = Array(hash.prefix(64))
        write(UInt8(hash.count))
        append(hash)
    }
}

extension ByteReader {
    fileprivate mutating func readHash() -> [UInt8]? {
        guard let count = read(UInt8.self), count <= 64 else { return nil }
        var bytes: [UInt8] = []
        for _ in 0..<count {
            guard let byte = read(UInt8.self) else { return nil }
            bytes.append(byte)
        }
        return bytes
    }
}
