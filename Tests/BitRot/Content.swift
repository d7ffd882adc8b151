import Foundation
import KeyValue

/// What a server answered for all of its keys: a listing, and each key by itself.
struct Content: Hashable {
    var items: [[UInt8]: [UInt8]] = [:]
    var revision: UInt64 = 0

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
        return (listed, asked)
    }

    private static func encode(_ item: Item) -> [UInt8] {
        let metadata = item.metadata
        return Array(
            "\(metadata.createRevision),\(metadata.modRevision),\(metadata.version),\(item.contentType ?? "");".utf8
        )
            + Array(item.value)
    }
}
