internal import Foundation
internal import Glibc
package import Raft

/// Every entry that any server of a run ever stored, by its position: what a log may hold and nothing else.
package struct EntryBook: Sendable {
    private struct Known: Sendable {
        var previousTerm: Term
        var payload: Entry.Payload
    }

    private var entries: [LogPosition: Known] = [:]
    private var steps: [LogPosition: Step] = [.zero: Step()]

    package init() {}

    /// Reads what ``EntryBookWriter`` wrote.
    package init(contentsOf path: String) throws {
        let bytes = try readFile(path)
        var offset = 0
        func number<Number: FixedWidthInteger>(_ type: Number.Type) -> Number {
            defer { offset += MemoryLayout<Number>.size }
            return bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: type) }
        }
        while offset + 29 <= bytes.count {
            let position = LogPosition(index: number(UInt64.self), term: number(UInt64.self))
            let (previous, kind, length) = (number(UInt64.self), number(UInt8.self), Int(number(UInt32.self)))
            guard offset + length <= bytes.count,
                let payload = Entry.Payload(kind: kind, bytes: Array(bytes[offset..<offset + length]))
            else { return }
            offset += length
            entries[position] = Known(previousTerm: previous, payload: payload)
        }
    }

    /// The state behind an entry: that of all commands up to it. Nil when no server ever stored it.
    package mutating func step(at position: LogPosition) -> Step? {
        var path: [LogPosition] = []
        var current = position
        while steps[current] == nil {
            guard let known = entries[current] else { return nil }
            path.append(current)
            current = LogPosition(index: current.index - 1, term: known.previousTerm)
        }
        guard var last = steps[current] else { return nil }
        for position in path.reversed() {
            guard let known = entries[position] else { return nil }
            last = Step(behind: last, position, known.payload)
            steps[position] = last
        }
        return last
    }
}

/// Appends to a file that an ``EntryBook`` reads. One process; any thread.
package final class EntryBookWriter: Sendable {
    private let descriptor: Int32

    package init(path: String) throws {
        descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw FileFailure("open", path) }
    }

    deinit { Glibc.close(descriptor) }

    package func add(_ entries: [Entry], after previous: Term) {
        var bytes: [UInt8] = []
        var previous = previous
        func append(_ number: some FixedWidthInteger) { withUnsafeBytes(of: number) { bytes += $0 } }
        for entry in entries {
            let (kind, payload) = entry.payload.encoded
            append(entry.index)
            append(entry.term)
            append(previous)
            append(kind)
            append(UInt32(payload.count))
            bytes += payload
            previous = entry.term
        }
        _ = Glibc.write(descriptor, bytes, bytes.count)
    }
}
