import NIOCore
import NIOHTTP1

extension FastLane {
    /// The first part of a request: decides its lane.
    func begin(_ head: HTTPRequestHead) {
        lastActivity = .now()
        headSince = nil
        keepsAlive = head.isKeepAlive && head.version == .http1_1 && head.method != .CONNECT
        isHead = head.method == .HEAD
        if isQuiescing { return answer(.shuttingDown) }
        if isSurplus { return answer(.tooManyConnections) }

        var fields = RequestFields()
        for (name, value) in head.headers { fields.take(name, value) }
        // Behind a wish for another protocol, which is not granted here, the codec takes nothing for HTTP any more.
        if RequestFields.list(fields.connection, contains: "upgrade") { keepsAlive = false }
        let bodyLimit = loop.server.options.limits.valueBytes
        let expectsContinue = RequestFields.list(fields.expect, contains: "100-continue") && head.version == .http1_1
        let length = fields.contentLength.flatMap { Int($0) } ?? 0

        if let method = KeyRequest.Method(head.method),
            let parsed = parse(head.uri, method: method, fields: fields)
                ?? (method == .get ? parseWatch(head.uri, fields: fields) : nil)
        {
            var collecting = Collecting(request: parsed, limit: bodyLimit)
            if length > collecting.limit { return answer(.valueTooLarge(limit: collecting.limit)) }
            if expectsContinue {
                if case .failure(let problem) = parsed { return answer(problem.with { $0.closesConnection = true }) }
                writeContinue()
            }
            if method == .put, length > 0, case .success = parsed {
                // What was announced may never come: large bodies grow as they do.
                collecting.body = loop.allocator.buffer(capacity: min(length, BodyShare.freeBytes))
            }
            phase = .collecting(collecting)
            return
        }
        guard length <= bodyLimit else { return answer(.bodyTooLarge(limit: bodyLimit)) }
        if expectsContinue { writeContinue() }
        var head = head
        // The router learns of HTTP/1.0 in no other way.
        if !keepsAlive { head.headers.replaceOrAdd(name: "Connection", value: "close") }
        phase = .passing(Passing())
        context?.fireChannelRead(wrapInboundOut(.head(head)))
    }

    /// The request, when `target` names a key.
    private func parse(
        _ target: String,
        method: KeyRequest.Method,
        fields: RequestFields
    ) -> Result<Work, Problem>? {
        var target = target
        let limits = loop.server.options.limits
        return target.withUTF8 { bytes in
            guard bytes.starts(with: RequestRouting.keyPrefix) else { return nil }
            let rest = bytes[RequestRouting.keyPrefix.count...]
            do throws(Problem) {
                guard let mark = rest.firstIndex(of: UInt8(ascii: "?")) else {
                    let request = try KeyRequest(
                        method: method,
                        path: rest,
                        query: nil as Slice<UnsafeBufferPointer<UInt8>>?,
                        fields: fields,
                        limits: limits
                    )
                    return .success(.key(request))
                }
                let request = try KeyRequest(
                    method: method,
                    path: rest[..<mark],
                    query: rest[(mark + 1)...],
                    fields: fields,
                    limits: limits
                )
                if let options = request.watch { return .success(.watch(WatchRequest(request, options))) }
                return .success(.key(request))
            } catch {
                return .failure(error)
            }
        }
    }

    /// The request, when `target` asks for the changes of a prefix or a lock.
    private func parseWatch(_ target: String, fields: RequestFields) -> Result<Work, Problem>? {
        do throws(Problem) {
            let request = try WatchRequest(target: target, fields: fields, limits: loop.server.options.limits)
            return request.map { .success(.watch($0)) }
        } catch {
            return .failure(error)
        }
    }

    func collect(_ part: HTTPServerRequestPart) {
        guard case .collecting(var collecting) = phase else { return }
        switch part {
        case .head: break
        case .body(var bytes):
            collecting.received += bytes.readableBytes
            guard collecting.received <= collecting.limit else {
                return answer(.valueTooLarge(limit: collecting.limit))
            }
            if case .success(let request) = collecting.request, request.method == .put {
                guard reserve(bytes.readableBytes, for: &collecting) else { return answer(.tooManyBodies) }
                phase = .idle  // gives up the phase's hold on the body, so that appending to it copies nothing
                if collecting.body == nil {
                    collecting.body = bytes
                } else {
                    collecting.body?.writeBuffer(&bytes)
                }
            }
            phase = .collecting(collecting)
        case .end:
            switch collecting.request {
            case .failure(let problem): answer(problem)
            case .success(.watch(let request)): beginWatch(request)
            case .success(.key(let request)):
                phase = .working
                loop.keys.handle(request, body: collecting.body ?? ByteBuffer(), on: loop) { answer in
                    self.respond(answer)
                }
            }
        }
    }

    /// Counts what has come of a body; small ones are free. False when the server holds too much already.
    private func reserve(_ bytes: Int, for collecting: inout Collecting) -> Bool {
        guard collecting.received > BodyShare.freeBytes else { return true }
        if let share = collecting.share { return share.grow(by: bytes) }
        let share = BodyShare(server: loop.server)
        collecting.share = share
        return share.grow(by: collecting.received)
    }

    // MARK: The router's requests

    func pass(_ part: HTTPServerRequestPart, _ context: ChannelHandlerContext) {
        guard case .passing(var passing) = phase else { return }
        switch part {
        case .head: break
        case .body(let bytes):
            passing.received += bytes.readableBytes
            // The router has answered and only throws away what still comes; it would do so for ever.
            if passing.responseEnded, passing.received > loop.server.options.limits.valueBytes {
                return beginLingering()
            }
        case .end:
            passing.requestEnded = true
        }
        phase = .passing(passing)
        context.fireChannelRead(wrapInboundOut(part))
        finishPassing()
    }

    func finishPassing() {
        guard case .passing(let passing) = phase, passing.requestEnded, passing.responseEnded else { return }
        lastActivity = .now()
        phase = .idle
        if !keepsAlive || isQuiescing { return beginLingering() }
        drainBacklog()
    }

    // MARK: Answers

    func answer(_ problem: Problem) {
        respond(loop.server.answer(problem))
    }

    /// Writes the answer to the present request and goes on to the next.
    func respond(_ answer: consuming Answer) {
        guard let wire else { return }
        if case .closed = phase { return }
        if !keepsAlive || isQuiescing { answer.closesConnection = true }
        loop.server.requests.count(answer.status)
        let bytes = answer.wire(
            servedBy: loop.server.name,
            date: loop.date(),
            toHead: isHead,
            allocator: loop.allocator
        )
        wire.writeAndFlush(NIOAny(bytes), promise: nil)
        lastActivity = .now()
        phase = .idle
        if answer.closesConnection { return beginLingering() }
        drainBacklog()
    }

    private func writeContinue() {
        wire?.writeAndFlush(NIOAny(loop.continueBytes), promise: nil)
    }

    /// What came is no HTTP.
    func refuse(unreadable error: any Error) {
        keepsAlive = false
        isHead = false
        switch error as? HTTPParserError {
        case .headerOverflow:
            answer(
                Problem(
                    431,
                    .headersTooLarge,
                    "header fields too large",
                    "The header fields of a request have a bound in size."
                ).with { $0.closesConnection = true }
            )
        case .invalidURL:
            answer(
                Problem(
                    400,
                    .malformedRequest,
                    "malformed request target",
                    "The target holds characters that none may; percent-encode all but letters, digits and -._~/ in keys."
                ).with { $0.closesConnection = true }
            )
        default:
            answer(
                Problem(400, .malformedRequest, "malformed request", "This is no HTTP/1.1 request: \(error).").with {
                    $0.closesConnection = true
                }
            )
        }
    }
}

extension KeyRequest.Method {
    init?(_ method: HTTPMethod) {
        switch method {
        case .GET: self = .get
        case .HEAD: self = .head
        case .PUT: self = .put
        case .DELETE: self = .delete
        default: return nil
        }
    }
}

extension Problem {
    static var tooManyConnections: Problem {
        Problem(
            503,
            .overloaded,
            "too many connections",
            "This node serves as many connections as it may; close idle ones or ask another node."
        ).with {
            $0.retryable = true
            $0.retryAfterSeconds = 1
            $0.closesConnection = true
        }
    }

    static var tooManyBodies: Problem {
        Problem(503, .overloaded, "overloaded", "Too many large bodies are arriving at once; try again later.").with {
            $0.retryable = true
            $0.retryAfterSeconds = 1
            $0.closesConnection = true
        }
    }

    static var requestTimeout: Problem {
        Problem(408, .requestTimeout, "request timeout", "The request did not arrive in time; nothing was done.").with {
            $0.retryable = true
            $0.closesConnection = true
        }
    }
}
