import HTTPTypes
import Hummingbird
import HummingbirdCore
import KeyValue
import KeyValueService
import NIOCore
import NIOHTTP1
import RaftNode

/// What the router knows of the connection a request came on.
struct APIContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    let channel: any Channel

    var eventLoop: any EventLoop { channel.eventLoop }

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
        channel = source.channel
    }
}

/// The slow lane: all routes, behind Hummingbird's router.
struct API: Sendable {
    let server: ServerCore
    let loops: LoopContexts
    private let router: RouterResponder<APIContext>

    init(server: ServerCore, loops: LoopContexts) {
        self.server = server
        self.loops = loops
        let routes = Self.routes(server)
        let builder = Router(context: APIContext.self, options: .autoGenerateHeadEndpoints)
        builder.add(middleware: ProblemMiddleware(server: server, routes: routes))
        for route in routes {
            builder.on(RouterPath(route.pattern), method: route.method) { request, context in
                let request = try await APIRequest(
                    request,
                    route: route,
                    server: server,
                    channel: context.channel
                )
                return Response(try await route.handler(request), servedBy: server.name)
            }
        }
        router = builder.buildResponder()
    }

    static func routes(_ server: ServerCore) -> [Route] {
        ListRoutes(server: server).routes + StatusRoutes(server: server).routes
            + MemberRoutes(server: server).routes + MetricsRoutes(server: server).routes
            + TransactionRoutes(server: server).routes + LeaseRoutes(server: server).routes
            + LockRoutes(server: server).routes + BackupRoutes(server: server).routes
    }

    /// Answers one request, whatever happens.
    func respond(to request: Request, writer: consuming ResponseWriter, channel: any Channel) async throws {
        let context = APIContext(source: .init(channel: channel, logger: server.options.logger))
        var response: Response
        do {
            if let key = try await keyResponse(request, context) {
                response = key
            } else {
                response = try await router.respond(to: request, context: context)
            }
        } catch {
            response = Response(
                server.answer(Problem(any: error)),
                servedBy: server.name
            )
        }
        if request.method == .head { response = response.createHeadResponse() }
        try await writer.write(response: response.head, body: response.body)
    }

    /// The response, when the request names one key: what the fast lane does, for those that come without it.
    private func keyResponse(_ request: Request, _ context: APIContext) async throws -> Response? {
        let (path, query) = RequestRouting.split(request.head.path ?? "/")
        let rest: Substring
        if path.utf8.starts(with: RequestRouting.keyPrefix) {
            rest = path.dropFirst(RequestRouting.keyPrefix.count)
        } else if path == "/kv", let query, try Query(parsing: query.utf8)["key_b64"] != nil {
            rest = ""
        } else {
            return nil
        }
        guard let method = KeyRequest.Method(request.method) else {
            throw Problem.methodNotAllowed(request.method.rawValue, allow: KeyRequest.allow)
        }
        let limits = server.options.limits
        let parsed = try KeyRequest(
            method: method,
            path: rest.utf8,
            query: query?.utf8,
            fields: RequestFields(request),
            limits: limits
        )
        if parsed.watch != nil { throw Problem.notSupported("Watching without the fast lane") }
        let body: ByteBuffer
        do {
            body = try await request.body.collect(upTo: limits.valueBytes)
        } catch is NIOTooManyBytesError {
            throw Problem.valueTooLarge(limit: limits.valueBytes)
        }
        let loop = loops[context.eventLoop]
        let answer: Answer = await withCheckedContinuation { continuation in
            loop.eventLoop.execute {
                loop.keys.handle(parsed, body: body, on: loop) { continuation.resume(returning: $0) }
            }
        }
        return Response(answer, servedBy: server.name)
    }
}

/// Makes problem documents of all errors, those of Hummingbird's router included.
struct ProblemMiddleware: RouterMiddleware {
    typealias Context = APIContext

    let server: ServerCore
    let routes: [Route]

    func handle(
        _ request: Request,
        context: APIContext,
        next: (Request, APIContext) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, context)
        } catch let error as HTTPError where error.status == .notFound {
            return Response(
                server.answer(noRoute(request)),
                servedBy: server.name
            )
        } catch {
            return Response(
                server.answer(Problem(any: error)),
                servedBy: server.name
            )
        }
    }

    private func noRoute(_ request: Request) -> Problem {
        let (path, _) = RequestRouting.split(request.head.path ?? "/")
        let segments = (try? APIRequest.segments(of: path)) ?? []
        var methods = routes.filter { $0.matches(segments) }.map(\.method.rawValue)
        if !methods.isEmpty {
            if methods.contains("GET") { methods.insert("HEAD", at: 1) }
            return .methodNotAllowed(request.method.rawValue, allow: methods.joined(separator: ", "))
        }
        return Problem(404, .noSuchRoute, "no such route", "There is nothing at \(path); GET / says what there is.")
    }
}

extension Problem {
    /// Whatever a handler threw.
    init(any error: any Error) {
        switch error {
        case let problem as Problem: self = problem
        case let error as ServiceError: self.init(error)
        case let error as OperationError: self.init(error)
        case let error as HistoryError: self = .unreadableRevision(error)
        default:
            // Writes turn their errors into problems themselves, so nothing was changed.
            self.init(500, .nodeFault, "internal error", "The request could not be answered: \(error).")
        }
    }
}

extension Response {
    init(_ answer: Answer, servedBy: String) {
        var sink = HTTPFieldsSink()
        answer.writeFields(to: &sink, servedBy: servedBy)
        sink.field("Date", DateField.now())
        if let backup = answer.backup {
            self.init(status: .init(code: answer.status), headers: sink.fields, body: backup.responseBody)
            return
        }
        if let pieces = answer.pieces {
            // Without a length it goes out in chunks; the writer waits while the client does not read.
            self.init(
                status: .init(code: answer.status),
                headers: sink.fields,
                body: ResponseBody { writer in
                    var pieces = pieces
                    while let piece = pieces.next() { try await writer.write(piece) }
                    try await writer.finish(nil)
                }
            )
            return
        }
        if answer.mayHaveBody { sink.field("Content-Length", UInt64(answer.body.count)) }
        if answer.closesConnection { sink.field("Connection", "close" as StaticString) }
        let body: ResponseBody =
            switch answer.body {
            case _ where !answer.mayHaveBody: ResponseBody()
            case .none: ResponseBody()
            case .slice(let bytes): ResponseBody(byteBuffer: ByteBuffer(bytes: bytes))
            case .buffer(let buffer): ResponseBody(byteBuffer: buffer)
            }
        let reason = HTTPResponseStatus(statusCode: answer.status).reasonPhrase
        self.init(status: .init(code: answer.status, reasonPhrase: reason), headers: sink.fields, body: body)
    }
}

extension KeyRequest.Method {
    init?(_ method: HTTPRequest.Method) {
        switch method {
        case .get: self = .get
        case .head: self = .head
        case .put: self = .put
        case .delete: self = .delete
        case .post: self = .post
        default: return nil
        }
    }
}
