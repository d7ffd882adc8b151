import Foundation
import KontikiClient

/// Lines of JSON objects with `key` or `key_base64`, `value` or `value_base64`, and `content_type` where there is one.
enum NewlineDelimitedJSON {
    private struct Document: Codable {
        var key: String?
        var keyBase64: String?
        var value: String?
        var valueBase64: String?
        var contentType: String?

        enum CodingKeys: String, CodingKey, CaseIterable {
            case key
            case keyBase64 = "key_base64"
            case value
            case valueBase64 = "value_base64"
            case contentType = "content_type"
        }
    }

    /// What listings say besides, which an import has no use for.
    private static let ignored: Set<String> = ["create_revision", "mod_revision", "version", "lease"]

    private struct AnyKey: CodingKey {
        var stringValue: String
        var intValue: Int? { nil }
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { return nil }
    }

    /// The names of an object's members, whatever they are.
    private struct Names: Decodable {
        var all: [String]

        init(from decoder: any Decoder) throws {
            all = try decoder.container(keyedBy: AnyKey.self).allKeys.map(\.stringValue)
        }
    }

    static func parse(_ line: ArraySlice<UInt8>) throws(MalformedRecord) -> Record {
        let document: Document
        let names: [String]
        do {
            let data = Data(line)
            names = try JSONDecoder().decode(Names.self, from: data).all
            document = try JSONDecoder().decode(Document.self, from: data)
        } catch DecodingError.typeMismatch(_, let context) where !context.codingPath.isEmpty {
            throw MalformedRecord(reason: "the member “\(context.codingPath[0].stringValue)” is not a string")
        } catch {
            throw MalformedRecord(reason: "it is not a JSON object of UTF-8 text")
        }
        let known = Set(Document.CodingKeys.allCases.map(\.rawValue)).union(ignored)
        if let stranger = names.sorted().first(where: { !known.contains($0) }) {
            throw MalformedRecord(reason: "the member “\(stranger)” is not known")
        }
        return Record(
            key: try bytes("key", document.key, document.keyBase64),
            value: try bytes("value", document.value, document.valueBase64),
            contentType: document.contentType
        )
    }

    private static func bytes(
        _ name: String,
        _ text: String?,
        _ base64: String?
    ) throws(MalformedRecord) -> [UInt8] {
        switch (text, base64) {
        case (let text?, nil): return Array(text.utf8)
        case (nil, let base64?):
            guard let data = Data(base64Encoded: base64) else {
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

    enum CodingKeys: String, CodingKey {
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
