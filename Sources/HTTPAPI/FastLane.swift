import KeyValueService
import NIOCore
import NIOHTTP1

/// Serves the key paths on the channel's own event loop and passes all else on to the router.
///
/// It stands between NIO's HTTP/1 codec and the conversion to `HTTPTypes`: the conversion parses each target as a URL and copies all
/// fields twice, which costs as much as a whole request here. Answers leave as finished bytes past the response encoder, one write
/// and one copy of the value each.
///
/// One request of a connection is worked on at a time. What a client sends ahead (pipelining) waits in `backlog`, and nothing
/// more is read meanwhile; so answers are in order whichever lane they take, and a write is done before the read behind it.
///
/// It also does for the whole connection what needs to see every request: bounds on idling and on slow requests,
/// `100 Continue`, answers to what is no HTTP, and the end of the connection.
final class FastLane: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    enum Phase {
        /// Between requests.
        case idle
        /// A request of the fast lane is being read.
        case collecting(Collecting)
        /// A request of the fast lane is with the service.
        case working
        /// Changes are streamed, or waited for.
        case watching(WatchStream)
        /// A request of the router.
        case passing(Passing)
        /// The last answer is written: what still comes is thrown away until the client closes.
        case lingering(discarded: Int)
        case closed
    }

    /// What a request of the fast lane asks for.
    enum Work {
        case key(KeyRequest)
        case watch(WatchRequest)

        var method: KeyRequest.Method {
            switch self {
            case .key(let request): request.method
            case .watch: .get
            }
        }
    }

    struct Collecting {
        /// What to do at the end of the request; or what to answer then.
        var request: Result<Work, Problem>
        var body: ByteBuffer?
        /// What the body counts against the server's bound.
        var share: BodyShare?
        var received = 0
        /// Longer bodies are refused in the middle.
        var limit: Int
    }

    struct Passing {
        var requestEnded = false
        var responseBegan = false
        var responseEnded = false
        var received = 0
        /// Who wants to know when nobody waits for the answer any more.
        var departure: DepartureWatch?
    }

    /// What has arrived and has to wait for its turn.
    enum Inbound {
        case part(HTTPServerRequestPart)
        case failure(any Error)
        case inputClosed
    }

    let loop: LoopContext
    var phase = Phase.idle
    var backlog = CircularBuffer<Inbound>()
    /// A read that was asked for while the backlog had to be worked off first.
    var readIsHeld = false
    var isDraining = false
    /// Whether the connection outlives the present request.
    var keepsAlive = true
    var isHead = false
    /// The server is stopping.
    var isQuiescing = false
    /// The connection is beyond the bound: its first request is refused.
    var isSurplus = false
    var lastActivity = NIODeadline.now()
    /// Since when the head of the next request is arriving in pieces.
    var headSince: NIODeadline?
    /// How much the codec has made of what arrived; counts round.
    private(set) var inboundCount: UInt = 0
    /// When this lane is woken next.
    var watchdog: SharedTimers.Timer?
    var context: ChannelHandlerContext?
    /// Stands in front of the response encoder: what is written here goes out as it is.
    var wire: ChannelHandlerContext?

    init(loop: LoopContext) {
        self.loop = loop
    }

    // MARK: Life

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        wire = try? context.pipeline.syncOperations.context(handlerType: HTTPResponseEncoder.self)
        isSurplus = !loop.server.connectionOpened()
        lastActivity = .now()
        scheduleWatchdog(in: min(loop.server.options.idleTimeout, loop.server.options.requestTimeout))
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        dropWatch()
        clientDeparted()
        phase = .closed
        backlog.removeAll()
        cancelWatchdog()
        wire = nil
        self.context = nil
        loop.server.connectionClosed()
    }

    func channelInactive(context: ChannelHandlerContext) {
        dropWatch()
        clientDeparted()
        phase = .closed
        backlog.removeAll()
        cancelWatchdog()
        context.fireChannelInactive()
    }

    // MARK: Inbound

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        receive(.part(unwrapInboundIn(data)))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard error is HTTPParserError else {
            context.fireErrorCaught(error)
            return
        }
        receive(.failure(error))
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? ChannelEvent, event == .inputClosed {
            receive(.inputClosed)
        } else if event is ChannelShouldQuiesceEvent {
            quiesce()
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    private func receive(_ inbound: Inbound) {
        inboundCount &+= 1
        if case .watching(let stream) = phase {
            switch inbound {
            case .part: break
            // A stream without end has nobody to wait for behind it; who waits for one answer gets it now, if it is still there.
            case .inputClosed where stream.watch == nil:
                backlog.append(inbound)
                return endPoll(stream)
            case .inputClosed, .failure:
                dropWatch()
                context?.close(promise: nil)
                return
            }
        }
        if case .inputClosed = inbound { clientDeparted() }
        if backlog.isEmpty, accepts(inbound) {
            process(inbound)
            drainBacklog()
        } else {
            backlog.append(inbound)
        }
    }

    /// Whether it is the turn of `inbound`.
    private func accepts(_ inbound: Inbound) -> Bool {
        switch phase {
        // A client that does not read its answers gets no new ones made.
        case .idle: context?.channel.isWritable ?? true
        case .collecting, .lingering, .closed: true
        case .working, .watching: false
        case .passing(let passing): !passing.requestEnded
        }
    }

    func drainBacklog() {
        guard !isDraining else { return }
        isDraining = true
        defer { isDraining = false }
        var hasProgressed = false
        while let next = backlog.first, accepts(next) {
            backlog.removeFirst()
            process(next)
            hasProgressed = true
        }
        // The router's side takes what it was passed at the end of a round of reading, and this may be outside of one.
        if hasProgressed, let context { context.fireChannelReadComplete() }
        if backlog.isEmpty, readIsHeld, let context {
            readIsHeld = false
            context.read()
        }
    }

    func read(context: ChannelHandlerContext) {
        if backlog.isEmpty {
            context.read()
        } else {
            readIsHeld = true
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        context.fireChannelWritabilityChanged()
        guard context.channel.isWritable else { return }
        pump()
        drainBacklog()
    }

    private func process(_ inbound: Inbound) {
        guard let context else { return }
        switch (inbound, phase) {
        case (_, .closed), (_, .working), (_, .watching): break
        case (.part(.body(let bytes)), .lingering(let discarded)):
            linger(discarded: discarded + bytes.readableBytes)
        case (_, .lingering): break
        case (.part(.head(let head)), .idle): begin(head)
        case (.part(let part), .collecting): collect(part)
        case (.part(let part), .passing): pass(part, context)
        case (.part, .idle): break
        case (.failure(let error), .passing): context.fireErrorCaught(error)
        case (.failure(let error), _): refuse(unreadable: error)
        case (.inputClosed, .passing): context.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        // No request, and no rest of one, will ever come.
        case (.inputClosed, _): beginLingering()
        }
    }

    // MARK: Outbound: the router's answers

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard case .passing(var passing) = phase else {
            // Its request was answered without it, and what it makes of that now goes nowhere.
            if case .lingering = phase { promise?.succeed() } else { context.write(data, promise: promise) }
            return
        }
        let part = unwrapOutboundIn(data)
        if case .head(let head) = part {
            loop.server.requests.count(Int(head.status.code))
            passing.responseBegan = true
            phase = .passing(passing)
        }
        switch part {
        case .head(var head) where (!keepsAlive || isQuiescing) && head.status.code >= 200:
            keepsAlive = false
            head.headers.replaceOrAdd(name: "Connection", value: "close")
            context.write(wrapOutboundOut(.head(head)), promise: promise)
        case .end:
            context.write(data, promise: promise)
            passing.responseEnded = true
            phase = .passing(passing)
            finishPassing()
        default:
            context.write(data, promise: promise)
        }
    }
}
