import Foundation
import NIOCore
import NIOPosix

/// A response as it came over the wire.
struct RawResponse: Sendable {
    var status: Int
    /// Names in lower case; of several fields of one name, the last.
    var fields: [String: String]
    var body: [UInt8]

    var text: String { String(decoding: body, as: UTF8.self) }
}

/// A connection that sends exactly the bytes it is told to, so that a test can send what no client library would.
actor RawConnection {
    private let channel: any Channel
    private var chunks: AsyncThrowingStream<ByteBuffer, any Error>.AsyncIterator
    private var buffer = ByteBuffer()
    private var hasEnded = false
    /// What came of a stream.
    private var stream: [UInt8] = []

    private final class Collector: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        let continuation: AsyncThrowingStream<ByteBuffer, any Error>.Continuation

        init(_ continuation: AsyncThrowingStream<ByteBuffer, any Error>.Continuation) {
            self.continuation = continuation
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) { continuation.yield(unwrapInboundIn(data)) }
        func channelInactive(context: ChannelHandlerContext) { continuation.finish() }
        func errorCaught(context: ChannelHandlerContext, error: any Error) { continuation.finish(throwing: error) }
        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            if let event = event as? ChannelEvent, event == .inputClosed { continuation.finish() }
        }
    }

    init(port: Int, receiveBuffer: Int32? = nil) async throws {
        let (stream, continuation) = AsyncThrowingStream<ByteBuffer, any Error>.makeStream()
        var bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.allowRemoteHalfClosure, value: true)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Collector(continuation))
                }
            }
        if let receiveBuffer {
            bootstrap = bootstrap.channelOption(.socketOption(.so_rcvbuf), value: .init(receiveBuffer))
        }
        channel = try await bootstrap.connect(host: "127.0.0.1", port: port).get()
        chunks = stream.makeAsyncIterator()
    }

    func send(_ text: String) async throws { try await channel.writeAndFlush(ByteBuffer(string: text)) }

    func send(_ bytes: [UInt8]) async throws { try await channel.writeAndFlush(ByteBuffer(bytes: bytes)) }

    /// Sends as long as the peer takes it.
    func sendAndForget(_ bytes: [UInt8]) { channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil) }

    /// Whether what comes is taken from the connection; as long as it is not, it stays with the peer, but for small buffers.
    func reads(_ isReading: Bool) async throws { try await channel.setOption(.autoRead, value: isReading).get() }

    func closeOutput() async throws { try await channel.close(mode: .output) }

    func close() async throws { try? await channel.close() }

    /// The next response; nil when the connection ended instead.
    func response(toHead: Bool = false) async throws -> RawResponse? {
        while true {
            if let response = parse(toHead: toHead) { return response }
            guard await more() else { return nil }
        }
    }

    /// So many bytes of a body whose head was read.
    func bytes(_ count: Int) async throws -> [UInt8] {
        while buffer.readableBytes < count {
            guard await more() else { throw NotReached() }
        }
        return buffer.readBytes(length: count) ?? []
    }

    /// Whether the peer has closed, with nothing more to read.
    func isAtEnd() async throws -> Bool {
        while await more() {}
        return buffer.readableBytes == 0
    }

    /// An event of a stream.
    struct StreamEvent: Hashable, Sendable {
        var name = ""
        var id: String?
        var data = ""
    }

    /// The head of a response whose body is a stream; what follows is for ``event()``.
    func streamHead() async throws -> RawResponse? { try await response(toHead: true) }

    /// The next event of a chunked stream, comments left out; nil at its end.
    func event() async throws -> StreamEvent? {
        while true {
            while let end = stream.firstRange(of: Array("\n\n".utf8)) {
                let text = String(decoding: stream[..<end.lowerBound], as: UTF8.self)
                stream.removeSubrange(..<end.upperBound)
                var event = StreamEvent()
                for line in text.split(separator: "\n") {
                    if line.hasPrefix("event: ") { event.name = String(line.dropFirst(7)) }
                    if line.hasPrefix("id: ") { event.id = String(line.dropFirst(4)) }
                    if line.hasPrefix("data: ") { event.data = String(line.dropFirst(6)) }
                }
                if !event.name.isEmpty { return event }
            }
            if let chunk = nextChunk() {
                if chunk.isEmpty { return nil }
                stream += chunk
            } else if await !more() {
                return nil
            }
        }
    }

    private func nextChunk() -> [UInt8]? {
        let view = buffer.readableBytesView
        guard let lineEnd = view.firstIndex(of: 0x0A),
            let size = Int(String(decoding: view[..<lineEnd].dropLast(), as: UTF8.self), radix: 16),
            view.endIndex >= lineEnd + 1 + size + 2
        else { return nil }
        let chunk = Array(view[(lineEnd + 1)..<(lineEnd + 1 + size)])
        buffer.moveReaderIndex(to: lineEnd + 1 + size + 2)
        return chunk
    }

    func request(_ text: String, toHead: Bool = false) async throws -> RawResponse {
        try await send(text)
        guard let response = try await response(toHead: toHead) else { throw NotReached() }
        return response
    }

    private func more() async -> Bool {
        guard !hasEnded else { return false }
        var iterator = chunks
        defer { chunks = iterator }
        do {
            guard var chunk = try await iterator.next(isolation: self) else {
                hasEnded = true
                return false
            }
            buffer.writeBuffer(&chunk)
            return true
        } catch {
            hasEnded = true
            return false
        }
    }

    private func parse(toHead: Bool) -> RawResponse? {
        let bytes = Array(buffer.readableBytesView)
        guard let end = bytes.firstRange(of: Array("\r\n\r\n".utf8)) else { return nil }
        let lines = String(decoding: bytes[..<end.lowerBound], as: UTF8.self).components(separatedBy: "\r\n")
        let parts = lines[0].split(separator: " ", maxSplits: 2)
        guard parts.count >= 2, parts[0] == "HTTP/1.1", let status = Int(parts[1]) else { return nil }
        var fields: [String: String] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            fields[line[..<colon].lowercased()] = line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
        }
        if !toHead, fields["transfer-encoding"] == "chunked" {
            guard let (body, length) = Self.chunks(bytes[end.upperBound...]) else { return nil }
            buffer.moveReaderIndex(forwardBy: end.upperBound + length)
            return RawResponse(status: status, fields: fields, body: body)
        }
        let length = toHead || status < 200 ? 0 : fields["content-length"].flatMap { Int($0) } ?? 0
        guard bytes.count >= end.upperBound + length else { return nil }
        buffer.moveReaderIndex(forwardBy: end.upperBound + length)
        return RawResponse(
            status: status,
            fields: fields,
            body: Array(bytes[end.upperBound..<end.upperBound + length])
        )
    }

    /// The chunks' content, and how many bytes they take; nil while the last has not come.
    private static func chunks(_ bytes: ArraySlice<UInt8>) -> (body: [UInt8], length: Int)? {
        var body: [UInt8] = []
        var rest = bytes
        while true {
            guard let line = rest.firstRange(of: Array("\r\n".utf8)),
                let size = Int(String(decoding: rest[..<line.lowerBound], as: UTF8.self), radix: 16),
                rest.endIndex >= line.upperBound + size + 2
            else { return nil }
            body += rest[line.upperBound..<line.upperBound + size]
            rest = rest[(line.upperBound + size + 2)...]
            if size == 0 { return (body, rest.startIndex - bytes.startIndex) }
        }
    }
}
