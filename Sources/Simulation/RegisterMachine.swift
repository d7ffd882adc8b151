import Raft

/// What a simulated client asks of the state machine, as a log entry carries it.
struct RegisterCommand: Hashable, Sendable {
    enum Kind: Hashable, Sendable {
        case write(Int64)
        case compareAndSet(expected: Int64?, new: Int64)
    }

    /// Names the request; every request is made once.
    var operation: Int
    var key: Int
    var kind: Kind

    func encode() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(UInt32(operation))
        writer.write(UInt8(key))
        switch kind {
        case .write(let value):
            writer.write(UInt8(0))
            writer.write(value)
        case .compareAndSet(let expected, let new):
            writer.write(UInt8(expected == nil ? 1 : 2))
            writer.write(new)
            writer.write(expected ?? 0)
        }
        return writer.bytes
    }

    init(operation: Int, key: Int, kind: Kind) {
        (self.operation, self.key, self.kind) = (operation, key, kind)
    }

    init?(decoding bytes: [UInt8]) {
        var reader = ByteReader(bytes)
        guard let operation = reader.read(UInt32.self), let key = reader.read(UInt8.self),
            let form = reader.read(UInt8.self), let new = reader.read(Int64.self)
        else { return nil }
        self.operation = Int(operation)
        self.key = Int(key)
        if form == 0 {
            kind = .write(new)
        } else {
            guard let expected = reader.read(Int64.self) else { return nil }
            kind = .compareAndSet(expected: form == 1 ? nil : expected, new: new)
        }
    }
}

/// The replicated state of the simulator: some registers, and a digest of everything that was ever applied.
struct RegisterMachine: Hashable, Sendable {
    private(set) var values: [Int64?]
    private(set) var position = LogPosition.zero
    private(set) var digest: UInt64 = 0
    var unflushedBytes = 0

    init(keys: Int) { values = Array(repeating: nil, count: keys) }

    /// Answers whether the command took effect; nil for entries that are no commands.
    mutating func apply(_ entry: Entry) -> Bool? {
        position = entry.position
        unflushedBytes += entry.size
        digest = mixed(digest, entry.index ^ entry.term << 40)
        guard case .command(let bytes) = entry.payload, let command = RegisterCommand(decoding: bytes) else {
            return nil
        }
        digest = mixed(digest, UInt64(command.operation))
        switch command.kind {
        case .write(let value): values[command.key] = value
        case .compareAndSet(let expected, let new):
            guard values[command.key] == expected else { return false }
            values[command.key] = new
        }
        return true
    }
}

/// One round of a plain mixing function; the same in every process.
@inline(__always)
func mixed(_ state: UInt64, _ word: UInt64) -> UInt64 {
    let product = (state ^ word ^ 0x9e37_79b9_7f4a_7c15) &* 0xff51_afd7_ed55_8ccd
    return product ^ (product >> 32)
}
