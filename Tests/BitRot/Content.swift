import Foundation
import KeyValue

/// What a server answered for all of its keys: a listing, and each key by itself; and what it told of the past.
struct Content: Hashable {
    var items: [[UInt8]: [UInt8]] = [:]
    var revision: UInt64 = 0
    /// The events with what was before them, and the items at some revisions.
    var past: [[UInt8]] = []

    /// Reads everything twice: by listing, and key by key as it was expected. Throws where the state is found to be damaged.
    static func read(_ store: Store, expecting keys: some Sequence<[UInt8]>) throws -> (listed: Content, asked: Content)
    {
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
        var asked = Content()
        asked.revision = store.mark.revision
        for key in keys { if let item = try store.get(key[...]).item { asked.items[key] = encode(item) } }
        listed.past = try readPast(store)
        asked.past = listed.past
        return (listed, asked)
    }

    private static func readPast(_ store: Store) throws -> [[UInt8]] {
        let (floor, now) = (store.compactRevision, store.mark.revision)
        var past: [[UInt8]] = []
        var after = floor
        while after < now {
            let page = try store.events(after: after, EventFilter(withPrevious: true), maximumEvents: 200)
            for event in page.events {
                past.append(Array("\(event.revision),\(event.kind);".utf8) + event.item.key + encode(event.item))
                if let previous = event.previous { past.append(encode(previous)) }
            }
            after = page.through
        }
        for revision in stride(from: floor, to: now, by: Int(max(1, (now - floor) / 4))) {
            let page = try store.range(RangeQuery(limit: .max, maximumBytes: .max, revision: revision))
            past += page.items.map { $0.key + encode($0) }
        }
        return past
    }

    private static func encode(_ item: Item) -> [UInt8] {
        let metadata = item.metadata
        return Array(
            "\(metadata.createRevision),\(metadata.modRevision),\(metadata.version),\(item.contentType ?? "");".utf8
        )
            + Array(item.value)
    }
}
