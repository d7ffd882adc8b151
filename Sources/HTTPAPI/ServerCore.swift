import KeyValue
import KeyValueService
import NIOCore
import Observability
import Raft
import RaftNode
import Synchronization

/// What all connections of a server share.
final class ServerCore: Sendable {
    let service: KeyValueNode
    let options: HTTPServer.Options
    /// This node's name.
    let name: String
    private let connections = Atomic<Int>(0)
    private let stopping = Atomic<Bool>(false)
    /// Bytes of bodies that are still arriving.
    private let arriving = Atomic<Int>(0)
    let startedAt = NIODeadline.now()
    let requests: RequestCounters

    init(service: KeyValueNode, name: String, options: HTTPServer.Options) {
        self.service = service
        self.name = name
        self.options = options
        requests = RequestCounters(options.metrics)
        options.metrics.collect { [weak self] in self?.collect(into: &$0) }
    }

    /// Counts a connection; false when it is one more than allowed.
    func connectionOpened() -> Bool {
        connections.add(1, ordering: .relaxed).newValue <= options.maximumConnections
    }

    func connectionClosed() {
        connections.subtract(1, ordering: .relaxed)
    }

    /// Takes a part of the room for bodies; false when there is none left.
    func reserve(bytes: Int) -> Bool {
        guard arriving.add(bytes, ordering: .relaxed).newValue <= options.maximumArrivingBytes else {
            release(bytes: bytes)
            return false
        }
        return true
    }

    func release(bytes: Int) {
        arriving.subtract(bytes, ordering: .relaxed)
    }

    var connectionCount: Int { connections.load(ordering: .relaxed) }

    /// Whether the server has been asked to stop: it is not ready any more.
    var isStopping: Bool { stopping.load(ordering: .relaxed) }

    func stop() {
        stopping.store(true, ordering: .relaxed)
    }

    /// What the node says of itself, and whether this server still takes requests.
    var readinessChecks: [HealthCheck] {
        var checks = service.readinessChecks
        let accepting = HealthCheck("accepting", !isStopping, isStopping ? "this node is stopping" : "takes requests")
        checks.insert(accepting, at: 1)
        return checks
    }

    /// Proposes a command, and answers what came of it: what was executed, now or, for a retry, before.
    ///
    /// Throws a ``Problem`` for what was refused.
    func write(
        _ command: Command,
        _ options: CommandOptions = .none,
        timeout: TimeAmount
    ) async throws(Problem) -> (outcome: KeyValue.Outcome, isReplayed: Bool) {
        let result: Result<KeyValueNode.Written, ServiceError> = await withCheckedContinuation { continuation in
            service.write(command, options: options, deadline: service.deadline(after: timeout)) {
                continuation.resume(returning: $0)
            }
        }
        switch result {
        case .success(let written): return try Self.executed(written.outcome)
        case .failure(let error): throw Problem(error)
        }
    }

    static func executed(
        _ outcome: KeyValue.Outcome
    ) throws(Problem) -> (outcome: KeyValue.Outcome, isReplayed: Bool) {
        var (outcome, isReplayed) = (outcome, false)
        if case .replayed(let first) = outcome { (outcome, isReplayed) = (first, true) }
        if let problem = Problem(refusal: outcome) { throw problem.with { $0.isReplayed = isReplayed } }
        return (outcome, isReplayed)
    }

    /// The problem's answer, with the state of the node that gives it.
    func answer(_ problem: Problem) -> Answer {
        let vitals = service.vitals
        var answer = Answer(problem, leader: vitals.leader)
        answer.stamp(vitals)
        return answer
    }

    /// The answer, with the state of the node that gives it.
    func stamped(_ answer: Answer) -> Answer {
        var answer = answer
        answer.stamp(service.vitals)
        return answer
    }
}

/// What one body that is still arriving takes of the server's room for them. Given back when the last reference goes.
final class BodyShare {
    /// Up to this many bytes a body is not counted: as much waits in any connection's receive buffer.
    static let freeBytes = 1 << 16

    private let server: ServerCore
    private var bytes = 0

    init(server: ServerCore) {
        self.server = server
    }

    deinit { server.release(bytes: bytes) }

    func grow(by more: Int) -> Bool {
        guard server.reserve(bytes: more) else { return false }
        bytes += more
        return true
    }
}

/// What the connections of one event loop share, so that nothing of it needs a lock.
final class LoopContext: @unchecked Sendable {
    // Sound: it is handed to other threads only to be handed back to `eventLoop`, on which every use is.

    let server: ServerCore
    let eventLoop: any EventLoop
    let gate: ReadGate
    let keys: KeyHandler
    let timers: SharedTimers
    let allocator = ByteBufferAllocator()
    let continueBytes = ByteBuffer(staticString: "HTTP/1.1 100 Continue\r\n\r\n")
    private var dateField = DateField()

    init(server: ServerCore, eventLoop: any EventLoop) {
        self.server = server
        self.eventLoop = eventLoop
        gate = ReadGate(service: server.service, eventLoop: eventLoop)
        keys = KeyHandler(server: server)
        timers = SharedTimers(eventLoop: eventLoop)
    }

    func date() -> StringOfBytes { dateField.current() }
}

/// The contexts of a server's event loops.
struct LoopContexts: Sendable {
    private let contexts: [ObjectIdentifier: LoopContext]

    init(server: ServerCore, group: any EventLoopGroup) {
        var contexts: [ObjectIdentifier: LoopContext] = [:]
        for eventLoop in group.makeIterator() {
            contexts[ObjectIdentifier(eventLoop)] = LoopContext(server: server, eventLoop: eventLoop)
        }
        self.contexts = contexts
    }

    subscript(eventLoop: any EventLoop) -> LoopContext {
        guard let context = contexts[ObjectIdentifier(eventLoop)] else {
            preconditionFailure("a connection runs on a loop that is not of the server's group")
        }
        return context
    }
}

extension Answer {
    /// Says by whom and from which state the answer was given.
    mutating func stamp(_ vitals: Vitals) {
        term = vitals.term
        appliedIndex = vitals.appliedIndex
        leader = vitals.leader?.name
    }
}
