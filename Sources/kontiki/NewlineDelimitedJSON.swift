import Foundation
import KontikiClient

/// Lines of JSON objects with `key` or `key_base64`, `value` or `value_base64`, and `content_type` where there is one.
enum NewlineDelimitedJSON {
    private struct Document: Encodable {
        var key: String?
        var keyBase64: String?
        var value: String?
        var valueBase64: String?
        var contentType: String?

        enum CodingKeys: String, CodingKey {
            case key
            case keyBase64 = "key_base64"
            case value
            case valueBase64 = "value_base64"
            case contentType = "content_type"
        }
    }

    /// What listings say besides, which an import has no use for.
    private static let ignored = Set(ItemDocument.CodingKeys.allCases.map(\.rawValue))

    enum Line {
        case record(Record)
        /// What a backup ends with.
        case end(BackupEnd)
    }

    static func parse(_ line: ArraySlice<UInt8>) throws(MalformedRecord) -> Line {
        let members = try JSONLine.members(of: line)
        if members.contains(where: { $0.name == "end" }) { return .end(try end(members)) }
        var texts: [String: [UInt8]] = [:]
        for member in members {
            guard Document.CodingKeys(rawValue: member.name) != nil else {
                guard ignored.contains(member.name) else {
                    throw MalformedRecord(reason: "the member “\(member.name)” is not known")
                }
                continue
            }
            switch member.value {
            case .string(let bytes): texts[member.name] = bytes
            case .null: break
            case .number, .bool: throw MalformedRecord(reason: "the member “\(member.name)” is not a string")
            }
        }
        return .record(
            Record(
                key: try bytes("key", texts["key"], texts["key_base64"]),
                value: try bytes("value", texts["value"], texts["value_base64"]),
                contentType: texts["content_type"].map { String(decoding: $0, as: UTF8.self) }
            )
        )
    }

    private static func end(_ members: [JSONLine.Member]) throws(MalformedRecord) -> BackupEnd {
        func number(_ name: String) -> UInt64? {
            for case .number(let text) in members.filter({ $0.name == name }).map(\.value) { return UInt64(text) }
            return nil
        }
        var checksum: String?
        for case .string(let bytes) in members.filter({ $0.name == "crc32c" }).map(\.value) {
            checksum = String(decoding: bytes, as: UTF8.self)
        }
        guard let revision = number("revision"), let records = number("records").flatMap({ Int(exactly: $0) }),
            let checksum
        else { throw MalformedRecord(reason: "it is not the end of a backup") }
        return BackupEnd(revision: revision, records: records, crc32c: checksum)
    }

    private static func bytes(
        _ name: String,
        _ text: [UInt8]?,
        _ base64: [UInt8]?
    ) throws(MalformedRecord) -> [UInt8] {
        switch (text, base64) {
        case (let text?, nil): return text
        case (nil, let base64?):
            guard let data = Data(base64Encoded: Data(base64)) else {
                throw MalformedRecord(reason: "the member “\(name)_base64” is not base64")
            }
            return Array(data)
        case (nil, nil): throw MalformedRecord(reason: "there is neither “\(name)” nor “\(name)_base64”")
        case (.some, .some): throw MalformedRecord(reason: "there are both “\(name)” and “\(name)_base64”")
        }
    }

    static func line(_ record: Record) throws -> [UInt8] {
        var document = Document()
        (document.key, document.keyBase64) = textOrBase64(record.key)
        (document.value, document.valueBase64) = textOrBase64(record.value)
        document.contentType = record.contentType
        return try line(document)
    }

    /// An item as listings of a node show it, on a line.
    static func line(_ item: Item) throws -> [UInt8] {
        var document = ItemDocument(item)
        (document.key, document.keyBase64) = textOrBase64(item.key.bytes)
        (document.value, document.valueBase64) = textOrBase64(item.value)
        return try line(document)
    }

    /// What the keys of a group begin with, on a line.
    static func line(prefix: Key) throws -> [UInt8] {
        let (text, base64) = textOrBase64(prefix.bytes)
        return try line(text.map { ["prefix": $0] } ?? ["prefix_base64": base64 ?? ""])
    }

    private static func line(_ document: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(document)) + [0x0A]
    }

    private static func textOrBase64(_ bytes: [UInt8]) -> (String?, String?) {
        if let text = String(validating: bytes, as: UTF8.self) { return (text, nil) }
        return (nil, Data(bytes).base64EncodedString())
    }
}

/// An item with its revisions, by the names of the HTTP interface.
private struct ItemDocument: Encodable {
    var key: String?
    var keyBase64: String?
    var value: String?
    var valueBase64: String?
    var contentType: String?
    var createRevision: UInt64
    var modRevision: UInt64
    var version: UInt64
    var lease: String?

    init(_ item: Item) {
        contentType = item.contentType
        createRevision = item.createRevision
        modRevision = item.modifyRevision
        version = item.version
        lease = item.lease?.description
    }

    enum CodingKeys: String, CodingKey, CaseIterable {
        case key
        case keyBase64 = "key_base64"
        case value
        case valueBase64 = "value_base64"
        case contentType = "content_type"
        case createRevision = "create_revision"
        case modRevision = "mod_revision"
        case version, lease
    }
}
