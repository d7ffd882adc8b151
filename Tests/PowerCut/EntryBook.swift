internal import Foundation
internal import Glibc
internal import KeyValue
package import Raft

/// Every entry that any server of a run ever stored, by its position: what a log may hold and nothing else.
package struct EntryBook: Sendable {
    private struct Known: Sendable {
        var previousTerm: Term
        var payload: Entry.Payload
    }

    private var entries: [LogPosition: Known] = [:]
    private var states: [LogPosition: StateModel] = [.zero: StateModel()]

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
    package mutating func state(at position: LogPosition) -> StateModel? {
        var path: [LogPosition] = []
        var current = position
        while states[current] == nil {
            guard let known = entries[current] else { return nil }
            path.append(current)
            current = LogPosition(index: current.index - 1, term: known.previousTerm)
        }
        guard var state = states[current] else { return nil }
        for step in path.reversed() {
            if case .command(let command)? = entries[step]?.payload { state.apply(command) }
        }
        states[position] = state
        return state
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

/// The key-value state, as plainly as it can be said.
package struct StateModel: Sendable {
    struct Value: Sendable {
        var bytes: ArraySlice<UInt8>
        var metadata: ItemMetadata
    }

    private(set) var items: [[UInt8]: Value] = [:]
    private(set) var revision: UInt64 = 0

    package init() {}

    package mutating func apply(_ payload: [UInt8]) {
        guard let command = try? Command.decode(payload).command else { return }
        switch command {
        case .put(let put):
            let (key, value, condition) = (put.key, put.value, put.condition)
            let present = items[Array(key)]?.metadata
            guard condition.allows(present) else { return }
            revision += 1
            let metadata = ItemMetadata(
                createRevision: present?.createRevision ?? revision,
                modRevision: revision,
                version: (present?.version ?? 0) + 1
            )
            items[Array(key)] = Value(bytes: value, metadata: metadata)
        case .delete(let key, let condition, _):
            guard let present = items[Array(key)]?.metadata, condition.allows(present) else { return }
            revision += 1
            items[Array(key)] = nil
        case .deletePrefix(let prefix):
            let doomed = items.keys.filter { $0.starts(with: prefix) }
            guard !doomed.isEmpty else { return }
            revision += 1
            for key in doomed { items[key] = nil }
        default: preconditionFailure("the workload has no such commands")
        }
    }

    /// What differs between this and a real state; nil when they agree.
    func difference(from store: Store) throws -> String? {
        guard store.mark.revision == revision else { return "the revision is \(store.mark.revision), not \(revision)" }
        let page = try store.range(RangeQuery(limit: items.count + 1, maximumBytes: .max))
        guard page.items.count == items.count, !page.more else {
            return "there are \(page.items.count) keys\(page.more ? " and more" : ""), not \(items.count)"
        }
        for item in page.items {
            let name = String(decoding: item.key, as: UTF8.self)
            guard let expected = items[Array(item.key)] else { return "\(name) is there" }
            guard item.metadata == expected.metadata else {
                return "\(name) has \(item.metadata), not \(expected.metadata)"
            }
            let isSame = item.value.withUnsafeBytes { found in
                expected.bytes.withUnsafeBytes { expected in
                    found.count == expected.count
                        && (found.isEmpty || memcmp(found.baseAddress!, expected.baseAddress!, found.count) == 0)
                }
            }
            guard isSame else { return "\(name) has another value" }
        }
        return nil
    }
}

extension Condition {
    fileprivate func allows(_ present: ItemMetadata?) -> Bool {
        switch self {
        case .none: true
        case .absent: present == nil
        case .exists: present != nil
        case .modRevision(let revision): (present?.modRevision ?? 0) == revision
        }
    }
}
