import Checksum
import HTTPTypes
import HummingbirdCore
import KeyValue
import KeyValueService
import NIOCore

/// `GET /snapshot`: all keys at one revision, as lines that `kontiki import` reads.
struct BackupRoutes: Sendable {
    /// What is read of it and sent at a time, in bytes.
    private static let pieceBytes = 64 << 10
    /// How long a client may take for a piece, before the connection is cut.
    private static let pieceTimeout = TimeAmount.seconds(120)

    static let parameters = ["prefix"] + ReadDemand.parameters + ["timeout"]

    let server: ServerCore

    var routes: [Route] { [Route(method: .get, pattern: "/snapshot") { try await backup($0) }] }

    private func backup(_ request: APIRequest) async throws -> Answer {
        let prefix = request.query["prefix"]?.value ?? []
        try server.checkPrefix(prefix)
        let given = try await server.prepareRead(request)
        var answer = Answer(200, contentType: "application/x-ndjson")
        // Nothing is read for somebody who wants no more than the head.
        guard request.method != .head else { return server.stamped(answer, given) }
        let backup = try await server.service.backup(prefix: prefix, as: BackupLines())
        answer.revision = backup.revision
        answer.backup = Body(backup: backup, channel: request.channel)
        return server.stamped(answer, given)
    }

    /// A backup on its way. Its length is known beforehand, so that a client sees when it was cut off.
    struct Body: Sendable {
        fileprivate let backup: Backup
        fileprivate let channel: any Channel

        var responseBody: ResponseBody {
            ResponseBody(contentLength: backup.byteCount) { writer in
                var offset = 0
                while offset < backup.byteCount {
                    let piece = try await backup.read(BackupRoutes.pieceBytes, at: offset)
                    offset += piece.readableBytes
                    // A client that takes nothing must not keep others from their backups for ever.
                    let patience = channel.eventLoop.scheduleTask(in: BackupRoutes.pieceTimeout) { [channel] in
                        channel.close(promise: nil)
                    }
                    defer { patience.cancel() }
                    try await writer.write(piece)
                }
                try await writer.finish(nil)
            }
        }
    }
}

/// A backup as NDJSON: a line for each key, with `value` and `content_type`, and a last one that says how many there are, and makes
/// sure that they are those.
struct BackupLines: BackupForm {
    private var json = JSONWriter(capacity: 1 << 19)
    private var checksum = CRC32C()
    private var records = 0

    mutating func append(_ item: Item) -> Int {
        records += 1
        json.beginObject()
        json.bytes(item.key, text: "key", base64: "key_base64")
        json.bytes(item.value, text: "value", base64: "value_base64")
        if let contentType = item.contentType { json.member("content_type", contentType) }
        json.endObject()
        json.endLine()
        return json.count
    }

    mutating func take() -> ByteBuffer {
        let bytes = json.takeBuffer()
        bytes.withUnsafeReadableBytes { checksum.update($0) }
        return bytes
    }

    mutating func end(at revision: UInt64) -> ByteBuffer {
        json.beginObject()
        json.member("end", true)
        json.member("revision", revision)
        json.member("records", records)
        json.member("crc32c", Self.hexadecimal(checksum.value))
        json.endObject()
        json.endLine()
        return json.takeBuffer()
    }

    private static func hexadecimal(_ value: UInt32) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 8 - digits.utf8.count) + digits
    }
}
