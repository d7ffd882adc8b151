internal import AsyncHTTPClient
internal import Glibc
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import Synchronization

/// A client of a Kontiki cluster: knows several nodes, and tries again what is safe to try again.
///
/// ```swift
/// let client = try KontikiClient(endpoints: ["http://localhost:8001", "http://localhost:8002"])
/// try await client.put("hello", Array("world".utf8))
/// let item = try await client.get("hello")
/// await client.shutdown()
/// ```
///
/// It stays with a node that answers, since any node serves everything; after a failure it goes where the answer says that
/// the leader is, else to the next. Reads are repeated on any failure of a node. Writes are repeated, too, and executed once all
/// the same: see ``Options/isExactlyOnce``. What does no harm when it is done twice, as keeping a lease alive, is repeated in any
/// case. Every error carries its ``ClientError/outcome``. ``shutdown()`` waits until the connections are closed; without it they
/// end when the last reference goes.
public final class KontikiClient: Sendable {
    /// How long and how a client tries.
    public struct Options: Sendable {
        /// The time for one attempt at one node. One to keep a lease alive may have less: see
        /// ``KontikiClient/keepAlive(_:time:within:)``.
        public var attemptTimeout: Duration = .seconds(5)
        /// The time for a request with all its attempts. Zero: one attempt.
        public var totalTimeout: Duration = .seconds(15)
        /// Give each write an idempotency key of its own, so that one whose outcome is unknown can be repeated: the cluster executes
        /// it once and gives the first answer again. Costs the cluster a small record for each write.
        public var isExactlyOnce = true
        /// Repeat unconditional writes whose outcome is unknown, too, without an idempotency key. They are then executed at least
        /// once: right for a program that is the only writer of its keys, as an import is.
        public var retriesUnknownWrites = false
        /// The largest answer that is taken in, in bytes.
        public var maximumAnswerBytes = 256 << 20
        /// Connections to one node at a time.
        public var connectionsPerNode = 64
        /// A watch that is silent for so long goes on at another node; nodes tell their progress more often.
        public var watchSilence: Duration = .seconds(40)
        /// How often a watch begins anew without anything heard in between, before it fails.
        public var watchAttempts = Int.max

        public init() {}
    }

    let endpoints: [Endpoint]
    let options: Options
    private let http: HTTPClient
    /// For answers without an end.
    let streams: HTTPClient
    /// The endpoint that answered last.
    private let preferred = Mutex(0)

    /// - Parameter endpoints: `http://host:port` or `host:port` of at least one node; the more, the better a failure is borne.
    /// - Throws: `invalidArgument`.
    public init(endpoints: [String], options: Options = Options()) throws(ClientError) {
        var parsed: [Endpoint] = []
        for text in endpoints { parsed.append(try Endpoint(parsing: text)) }
        guard !parsed.isEmpty else {
            throw ClientError(.invalidArgument, "no endpoint given; give at least one like http://localhost:8001")
        }
        self.endpoints = parsed
        self.options = options
        var configuration = Self.configuration(options)
        self.http = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
        configuration.timeout.read = .init(options.watchSilence)
        self.streams = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }

    static func configuration(_ options: Options) -> HTTPClient.Configuration {
        var configuration = HTTPClient.Configuration()
        configuration.redirectConfiguration = .disallow
        configuration.timeout.connect = .init(min(options.attemptTimeout, .seconds(2)))
        configuration.connectionPool.retryConnectionEstablishment = false
        configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = options.connectionsPerNode
        configuration.connectionPool.idleTimeout = .seconds(20)
        configuration.httpVersion = .http1Only
        return configuration
    }

    deinit {
        // Ended already by `shutdown()`, or else without anybody who waits for it.
        http.shutdown { _ in }
        streams.shutdown { _ in }
    }

    /// Ends all connections and waits until they are closed. Nothing may be asked afterwards.
    public func shutdown() async {
        // It fails only when it is called twice, and then there is nothing left to do.
        try? await http.shutdown()
        try? await streams.shutdown()
    }

    // MARK: Attempts

    struct Request: Sendable {
        var method: HTTPMethod
        /// Path and query, percent-encoded.
        var target: String
        var headers: [(String, String)] = []
        var body: [UInt8]?
        /// Doing it twice is as good as doing it once, as long as nobody else does something to the same key in between.
        var isIdempotent = false
        /// Doing it twice is as good as doing it once, whatever others do: it is repeated after an unknown outcome, too.
        var isHarmlessTwice = false
        /// The node keeps what it answered under it; see ``Options/isExactlyOnce``.
        var idempotencyKey: String?
        /// What the node itself may wait before it answers, beyond an attempt's usual time.
        var waits: Duration = .zero
        /// The time for one attempt, where it is less than ``Options/attemptTimeout``. It doubles each time all nodes were asked.
        var attemptTimeout: Duration?
        /// The time for all attempts, where it is less than ``Options/totalTimeout``.
        var totalTimeout: Duration?

        var isRead: Bool { method == .GET || method == .HEAD }
    }

    struct Response: Sendable {
        var status: Int
        var headers: HTTPHeaders
        var body: ByteBuffer
        var endpoint: Endpoint
        /// An attempt before the answered one may have been carried out.
        var isInDoubt = false

        func number(_ header: String) -> UInt64 { headers.first(name: header).flatMap { UInt64($0) } ?? 0 }
    }

    /// Asks node after node until one answers for good or the time is up.
    ///
    /// - Throws: also for every answer of 400 and above but those in `accepted`.
    func perform(_ request: Request, accepting accepted: Set<Int> = []) async throws(ClientError) -> Response {
        let clock = ContinuousClock()
        let start = clock.now
        let total = totalTimeout(of: request)
        var position = preferred.withLock { $0 }
        var attempt = 0
        // What one attempt left in doubt, a later one that came to nothing does not settle.
        var isInDoubt = false
        while true {
            let patience = patience(with: request, attempt: attempt)
            let timeout = total == .zero ? patience : min(patience, total - (clock.now - start))
            var failure: ClientError
            do throws(ClientError) {
                var response = try await attemptOnce(request, at: endpoints[position], timeout: timeout, accepted)
                response.isInDoubt = isInDoubt
                preferred.withLock { [position] in $0 = position }
                return response
            } catch {
                failure = error
            }
            attempt += 1
            let pause = backoff(afterAttempt: attempt)
            isInDoubt = isInDoubt || failure.outcome == .unknown
            if isInDoubt, Self.settlesNothing(failure.code) { failure.outcome = .unknown }
            guard mayRepeat(request, after: failure), total - (clock.now - start) > pause else {
                throw failure
            }
            let leader = failure.leader.flatMap { try? Endpoint(parsing: $0) }.flatMap { endpoints.firstIndex(of: $0) }
            position = leader.flatMap { $0 == position ? nil : $0 } ?? next(after: position)
            do {
                try await Task.sleep(for: pause)
            } catch {
                throw ClientError(.cancelled, outcome: failure.outcome, "the request was cancelled")
            }
        }
    }

    private func totalTimeout(of request: Request) -> Duration {
        guard options.totalTimeout > .zero else { return .zero }
        let total = options.totalTimeout + request.waits
        return request.totalTimeout.map { min($0, total) } ?? total
    }

    /// The time for an attempt behind so many others.
    private func patience(with request: Request, attempt: Int) -> Duration {
        var patience = options.attemptTimeout
        // Nodes that are all slow must be waited for at last.
        let growth = 1 << min(attempt / endpoints.count, 20)
        if let first = request.attemptTimeout, first < patience / growth { patience = first * growth }
        if let total = request.totalTimeout { patience = min(patience, total) }
        return patience + request.waits
    }

    /// Whether a failure says nothing about the attempts before it.
    private static func settlesNothing(_ code: ClientError.Code) -> Bool {
        [.unavailable, .timedOut, .connectionLost, .cancelled, .storageFull, .badAnswer].contains(code)
    }

    /// An idempotency key for one write with all its attempts; nil where none is wanted.
    func newIdempotencyKey() -> String? {
        guard options.isExactlyOnce else { return nil }
        var generator = SystemRandomNumberGenerator()
        return String(generator.next(), radix: 36) + "-" + String(generator.next(), radix: 36)
    }

    func next(after position: Int) -> Int { (position + 1) % endpoints.count }

    /// The endpoint to begin with.
    var preferredPosition: Int { preferred.withLock { $0 } }

    /// Nothing until every node was asked once, then more with every round, up to half a second.
    func backoff(afterAttempt attempt: Int) -> Duration {
        let rounds = attempt / endpoints.count
        guard rounds > 0 else { return .zero }
        let bound = min(500, 20 << min(rounds - 1, 5))
        return .milliseconds(Int.random(in: bound / 2...bound))
    }

    private func mayRepeat(_ request: Request, after failure: ClientError) -> Bool {
        switch failure.code {
        case .unavailable, .timedOut, .connectionLost:
            request.isRead || failure.outcome == .notExecuted || request.idempotencyKey != nil
                || request.isHarmlessTwice
                || (options.retriesUnknownWrites && request.isIdempotent && failure.outcome == .unknown)
        default: false
        }
    }

    private func attemptOnce(
        _ request: Request,
        at endpoint: Endpoint,
        timeout: Duration,
        _ accepted: Set<Int>
    ) async throws(ClientError) -> Response {
        var message = HTTPClientRequest(url: endpoint.url + request.target)
        message.method = request.method
        for (name, value) in request.headers { message.headers.add(name: name, value: value) }
        if let key = request.idempotencyKey { message.headers.add(name: "Idempotency-Key", value: key) }
        if let body = request.body { message.body = .bytes(ByteBuffer(bytes: body)) }
        let response: Response
        do {
            let answer = try await http.execute(message, timeout: TimeAmount(timeout))
            response = Response(
                status: Int(answer.status.code),
                headers: answer.headers,
                body: try await answer.body.collect(upTo: options.maximumAnswerBytes),
                endpoint: endpoint
            )
        } catch {
            throw Self.translate(error, request, endpoint)
        }
        guard response.status >= 400, !accepted.contains(response.status) else { return response }
        throw Problem.error(from: response, isRead: request.isRead)
    }

    static func translate(_ error: any Error, _ request: Request, _ endpoint: Endpoint) -> ClientError {
        let unsure: ClientError.Outcome = request.isRead ? .notExecuted : .unknown
        switch error {
        case is CancellationError:
            return ClientError(.cancelled, outcome: unsure, endpoint: endpoint.url, "the request was cancelled")
        case let error as NIOConnectionError:
            let reason = error.connectionErrors.first.map { "\($0.error)" } ?? "its name could not be resolved"
            return ClientError(.unavailable, endpoint: endpoint.url, "\(endpoint) cannot be reached: \(reason)")
        case let error as IOError where error.errnoCode == ECONNREFUSED:
            // What only an attempt to connect answers: nothing was sent. A host that cannot be reached may have been so before.
            return ClientError(.unavailable, endpoint: endpoint.url, "\(endpoint) cannot be reached: \(error)")
        case let error as HTTPClientError:
            return translate(error, unsure, endpoint)
        case is NIOTooManyBytesError:
            return ClientError(.badAnswer, outcome: unsure, endpoint: endpoint.url, "the answer is too large")
        default:
            return ClientError(
                .connectionLost,
                outcome: unsure,
                endpoint: endpoint.url,
                "the connection to \(endpoint) was lost: \(error)"
            )
        }
    }

    private static func translate(
        _ error: HTTPClientError,
        _ unsure: ClientError.Outcome,
        _ endpoint: Endpoint
    ) -> ClientError {
        switch error {
        case .cancelled:
            ClientError(.cancelled, outcome: unsure, endpoint: endpoint.url, "the request was cancelled")
        case .connectTimeout:
            ClientError(.unavailable, endpoint: endpoint.url, "\(endpoint) takes no connection within the time")
        case .invalidURL, .emptyHost, .emptyScheme:
            ClientError(.invalidArgument, endpoint: endpoint.url, "\(endpoint) is no usable endpoint")
        case .deadlineExceeded, .readTimeout:
            ClientError(.timedOut, outcome: unsure, endpoint: endpoint.url, "\(endpoint) gave no answer in time")
        default:
            ClientError(
                .connectionLost,
                outcome: unsure,
                endpoint: endpoint.url,
                "the connection to \(endpoint) was lost: \(error)"
            )
        }
    }
}
