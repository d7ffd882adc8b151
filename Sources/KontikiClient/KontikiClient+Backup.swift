internal import AsyncHTTPClient
internal import Checksum
internal import FoundationEssentials
internal import NIOCore
internal import NIOHTTP1

extension KontikiClient {
    /// What a backup was of.
    public struct Backup: Hashable, Sendable {
        /// Of the store: all keys are as they stood at it.
        public var revision: UInt64
        /// How many keys there were.
        public var records: Int
    }

    /// A node that takes the state down before it sends it is silent meanwhile.
    private static let backupSilence = Duration.seconds(600)

    /// Reads all keys, or those with a prefix, at one revision, which is that of the present; however long it takes.
    ///
    /// A node that cannot is left for the next, as long as nothing of a backup has come. One that breaks off later is an error, and what
    /// came is not complete; when this returns, it is.
    ///
    /// - Parameters:
    ///   - consistency, minimumRevision, maximumStaleness: as for ``get(_:consistency:revision:minimumRevision:maximumStaleness:)``.
    ///   - body: called with one line after the other, several at a time, each with its line feed: a JSON object with `key` or
    ///     `key_base64`, `value` or `value_base64`, and `content_type` where there is one. Nothing more is read before it returns.
    public func backup(
        prefix: Key = "",
        consistency: Consistency = .strong,
        minimumRevision: UInt64? = nil,
        maximumStaleness: Duration? = nil,
        _ body: (_ lines: [UInt8]) async throws -> Void
    ) async throws -> Backup {
        let parameters =
            ["prefix=" + PercentEncoding.query(prefix.bytes)]
            + Self.readParameters(consistency, nil, minimumRevision, maximumStaleness)
        let target = "/snapshot?" + parameters.joined(separator: "&")
        var configuration = Self.configuration(options)
        configuration.timeout.read = .init(Self.backupSilence)
        let http = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
        do {
            let backup = try await backup(target, http, body)
            try? await http.shutdown()
            return backup
        } catch {
            try? await http.shutdown()
            throw error
        }
    }

    private func backup(
        _ target: String,
        _ http: HTTPClient,
        _ body: (_ lines: [UInt8]) async throws -> Void
    ) async throws -> Backup {
        let clock = ContinuousClock()
        let deadline = clock.now + options.totalTimeout
        var position = preferredPosition
        var attempt = 0
        while true {
            var hasBegun = false
            do {
                return try await backup(target, http, at: endpoints[position]) {
                    hasBegun = true
                    try await body($0)
                }
            } catch let error as ClientError {
                attempt += 1
                let pause = backoff(afterAttempt: attempt)
                let isPassing = [.unavailable, .timedOut, .connectionLost, .storageFull].contains(error.code)
                guard isPassing, !hasBegun, clock.now + pause < deadline else { throw error }
                position = next(after: position)
                try await Task.sleep(for: pause)
            }
        }
    }

    private func backup(
        _ target: String,
        _ http: HTTPClient,
        at endpoint: Endpoint,
        _ body: (_ lines: [UInt8]) async throws -> Void
    ) async throws -> Backup {
        let request = Request(method: .GET, target: target)
        var lines = BackupLines()
        let answer: HTTPClientResponse
        do {
            answer = try await http.execute(HTTPClientRequest(url: endpoint.url + target), deadline: .distantFuture)
            guard answer.status == .ok else {
                let response = Response(
                    status: Int(answer.status.code),
                    headers: answer.headers,
                    body: try await answer.body.collect(upTo: 1 << 20),
                    endpoint: endpoint
                )
                throw Problem.error(from: response, isRead: true)
            }
        } catch let error as ClientError {
            throw error
        } catch {
            throw Self.translate(error, request, endpoint)
        }
        var pieces = answer.body.makeAsyncIterator()
        while true {
            let piece: ByteBuffer?
            do {
                piece = try await pieces.next()
            } catch {
                throw Self.translate(error, request, endpoint)
            }
            guard let piece else { return try lines.finish() }
            let complete = lines.take(Array(piece.readableBytesView))
            if !complete.isEmpty { try await body(complete) }
        }
    }
}

/// Takes a backup as it comes, and tells whether it has come to its end.
///
/// The last line is not one of a key, so that the last one so far is held back: in `held` there is at most one line, whole or not.
struct BackupLines {
    private static let lineFeed = UInt8(ascii: "\n")

    private var held: [UInt8] = []
    private var sum = BackupSum()

    /// The lines that are complete with `piece`, without the last one.
    mutating func take(_ piece: [UInt8]) -> [UInt8] {
        guard let last = piece.lastIndex(of: Self.lineFeed) else {
            // A whole line is held, and this is of another one.
            var complete: [UInt8] = []
            if held.last == Self.lineFeed, !piece.isEmpty { swap(&complete, &held) }
            held += piece
            return counted(complete)
        }
        var complete: [UInt8] = []
        if last == piece.count - 1 {
            // It may be the last: what stands before it goes.
            let start = piece[..<last].lastIndex(of: Self.lineFeed).map { $0 + 1 } ?? 0
            if start > 0 || held.last == Self.lineFeed {
                complete = held + piece[..<start]
                held = Array(piece[start...])
            } else {
                held += piece
            }
        } else {
            complete = held + piece[...last]
            held = Array(piece[(last + 1)...])
        }
        return counted(complete)
    }

    private mutating func counted(_ lines: [UInt8]) -> [UInt8] {
        sum.add(lines: lines)
        return lines
    }

    /// Throws `badAnswer` where something is missing.
    func finish() throws(ClientError) -> KontikiClient.Backup {
        guard let end = BackupEnd(held) else {
            throw ClientError(.connectionLost, "the backup breaks off behind \(sum.records) keys")
        }
        guard sum.matches(end) else {
            throw ClientError(.badAnswer, "the backup is not what the node sent: \(sum.difference(from: end))")
        }
        return KontikiClient.Backup(revision: end.revision, records: end.records)
    }
}

/// The last line of a backup.
package struct BackupEnd: Hashable, Sendable, Decodable {
    package var revision: UInt64
    package var records: Int
    package var crc32c: String

    package init(revision: UInt64, records: Int, crc32c: String) {
        (self.revision, self.records, self.crc32c) = (revision, records, crc32c)
    }

    init?(_ line: [UInt8]) {
        guard line.last == UInt8(ascii: "\n"), line.starts(with: Array(#"{"end":true,"#.utf8)),
            let end = try? JSONDecoder().decode(Self.self, from: Data(line))
        else { return nil }
        self = end
    }
}

/// Counts the lines of a backup, and makes their checksum.
package struct BackupSum: Sendable {
    package private(set) var records = 0
    private var checksum = CRC32C()

    package init() {}

    /// Whole lines, each with its line feed.
    package mutating func add(lines: [UInt8]) {
        checksum.update(lines)
        for byte in lines where byte == UInt8(ascii: "\n") { records += 1 }
    }

    /// One line without its line feed.
    package mutating func add(line: ArraySlice<UInt8>) {
        checksum.update(line)
        checksum.update(UInt8(ascii: "\n"))
        records += 1
    }

    /// Whether these are the lines before that end.
    package func matches(_ end: BackupEnd) -> Bool { end.records == records && end.crc32c == hexadecimal }

    /// In words, where they are not.
    package func difference(from end: BackupEnd) -> String {
        end.records == records
            ? "its checksum is \(hexadecimal), not \(Printable.shown(end.crc32c))"
            : "it has \(records) keys, not \(end.records)"
    }

    private var hexadecimal: String {
        let digits = String(checksum.value, radix: 16)
        return String(repeating: "0", count: 8 - digits.utf8.count) + digits
    }
}
