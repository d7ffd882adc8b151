import Foundation
import KeyValue

/// What a server answered: a listing of all keys, and each key by itself; what it told of the past, of leases and of locks.
struct Content: Hashable {
    var items: [[UInt8]: [UInt8]] = [:]
    var revision: UInt64 = 0
    /// The events with what was before them, and the items at some revisions.
    var past: [[UInt8]] = []
    var leases: [UInt64: LeaseStatus] = [:]
    /// The keys of leases.
    var attached: [UInt64: [[UInt8]]] = [:]
    /// Leases in the order of their ends.
    var ends: [UInt64] = []
    var locks: [[UInt8]: LockStatus] = [:]
    /// Of requests that were asked again.
    var answers: [Outcome] = []

    /// Reads everything twice: by listing, and one by one as it was expected. Throws where the state is found to be damaged.
    static func read(_ store: Store, expecting expected: Content?) throws -> (listed: Content, asked: Content) {
        var listed = Content()
        var query = RangeQuery()
        query.limit = 200
        while true {
            let page = try store.range(query)
            for item in page.items { listed.items[Array(item.key)] = encode(item) }
            listed.revision = page.mark.revision
            guard page.more, let last = page.last else { break }
            query.after = last
        }
        for lease in try store.leases(limit: .max).leases { listed.leases[lease.id] = lease }
        for lock in try store.locks(limit: .max).locks { listed.locks[lock.name] = lock }
        listed.ends = store.dueLeases(at: .max, limit: .max)
        for id in listed.ends { listed.attached[id] = try store.attachedKeys(of: id, limit: .max).keys }
        var asked = Content()
        asked.revision = store.mark.revision
        let wanted = expected ?? listed
        for key in wanted.items.keys { asked.items[key] = try store.get(key[...]).item.map { encode($0) } }
        for id in wanted.leases.keys { asked.leases[id] = try store.lease(id: id).lease }
        for name in wanted.locks.keys { asked.locks[name] = try store.lock(name: name).lock }
        listed.past = try readPast(store)
        (asked.past, asked.ends, asked.attached) = (listed.past, listed.ends, listed.attached)
        return (listed, asked)
    }

    private static func readPast(_ store: Store) throws -> [[UInt8]] {
        let (floor, now) = (store.compactRevision, store.mark.revision)
        var past: [[UInt8]] = []
        for space in [EventFilter.Space.keys, .locks] {
            var after = floor
            while after < now {
                let filter = EventFilter(space: space, withPrevious: true)
                let page = try store.events(after: after, filter, maximumEvents: 200)
                for event in page.events {
                    past.append(Array("\(event.revision),\(event.kind);".utf8) + event.item.key + encode(event.item))
                    if let previous = event.previous { past.append(encode(previous)) }
                }
                after = page.through
            }
        }
        for revision in stride(from: floor, to: now, by: Int(max(1, (now - floor) / 4))) {
            let page = try store.range(RangeQuery(limit: .max, maximumBytes: .max, revision: revision))
            past += page.items.map { $0.key + encode($0) }
        }
        return past
    }

    private static func encode(_ item: Item) -> [UInt8] {
        let metadata = item.metadata
        let numbers =
            "\(metadata.createRevision),\(metadata.modRevision),\(metadata.version),\(metadata.lease),"
            + "\(item.contentType ?? "");"
        return Array(numbers.utf8) + Array(item.value)
    }

    /// What is not as in another one, for people.
    func difference(from other: Content) -> String {
        var parts: [String] = []
        if items != other.items { parts.append("keys (\(items.count) of \(other.items.count))") }
        if revision != other.revision { parts.append("revision (\(revision) for \(other.revision))") }
        if past != other.past { parts.append("past (\(past.count) of \(other.past.count))") }
        if leases != other.leases || attached != other.attached || ends != other.ends { parts.append("leases") }
        if locks != other.locks { parts.append("locks") }
        if answers != other.answers { parts.append("answers to requests that were asked again") }
        return parts.joined(separator: ", ")
    }
}
