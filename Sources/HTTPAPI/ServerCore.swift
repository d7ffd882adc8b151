import KeyValueService
import NIOCore
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
    let startedAt = NIODeadline.now()

    init(service: KeyValueNode, name: String, options: HTTPServer.Options) {
        self.service = service
        self.name = name
        self.options = options
    }

    /// Counts a connection; false when it is one more than allowed.
    func connectionOpened() -> Bool {
        connections.add(1, ordering: .relaxed).newValue <= options.maximumConnections
    }

    func connectionClosed() {
        connections.subtract(1, ordering: .relaxed)
    }

    var connectionCount: Int { connections.load(ordering: .relaxed) }

    /// Whether the server has been asked to stop: it is not ready any more.
    var isStopping: Bool { stopping.load(ordering: .relaxed) }

    func stop() {
        stopping.store(true, ordering: .relaxed)
    }

    /// Looks a server up in the node's present configuration.
    func describe(_ id: ServerID?) -> LeaderDescription? {
        guard let id, let status = try? service.status else { return nil }
        guard let member = status.configuration.member(id) else { return nil }
        return LeaderDescription(
            name: member.name,
            peerAddress: member.peerAddress,
            httpAddress: member.clientAddress
        )
    }
}

/// What the connections of one event loop share, so that nothing of it needs a lock.
final class LoopContext: @unchecked Sendable {
    // Sound: it is handed to other threads only to be handed back to `eventLoop`, on which every use is.

    /// How long a leader's name and address are taken from the cache, while it leads.
    private static let leaderLifetime = TimeAmount.milliseconds(500)

    let server: ServerCore
    let eventLoop: any EventLoop
    let gate: ReadGate
    let keys: KeyHandler
    let allocator = ByteBufferAllocator()
    let continueBytes = ByteBuffer(staticString: "HTTP/1.1 100 Continue\r\n\r\n")
    private var dateField = DateField()
    private var leaderID: ServerID?
    private var leader: LeaderDescription?
    private var leaderExpires = NIODeadline.distantPast

    init(server: ServerCore, eventLoop: any EventLoop) {
        self.server = server
        self.eventLoop = eventLoop
        gate = ReadGate(service: server.service, eventLoop: eventLoop)
        keys = KeyHandler(server: server)
    }

    func date() -> StringOfBytes { dateField.current() }

    /// Who leads, as far as this node knows.
    func leader(_ id: ServerID?) -> LeaderDescription? {
        guard let id else { return nil }
        let now = NIODeadline.now()
        if id != leaderID || now > leaderExpires {
            leader = server.describe(id)
            leaderID = id
            leaderExpires = now + Self.leaderLifetime
        }
        return leader
    }

    /// The problem's answer, with the state of the node that gives it.
    func answer(_ problem: Problem) -> Answer {
        let vitals = server.service.vitals
        var answer = Answer(problem, leader: leader(vitals.leader))
        answer.stamp(vitals, leader: leader(vitals.leader))
        return answer
    }
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

extension LoopContext {
    /// ``answer(_:)`` for callers on other threads.
    func answerFromElsewhere(_ problem: Problem) async -> Answer {
        await withCheckedContinuation { continuation in
            eventLoop.execute { continuation.resume(returning: self.answer(problem)) }
        }
    }

    /// What ``Answer/stamp(_:leader:)`` adds, for callers on other threads.
    func stampedFromElsewhere(_ answer: Answer) async -> Answer {
        await withCheckedContinuation { continuation in
            eventLoop.execute {
                var answer = answer
                let vitals = self.server.service.vitals
                answer.stamp(vitals, leader: self.leader(vitals.leader))
                continuation.resume(returning: answer)
            }
        }
    }
}

extension Answer {
    /// Says by whom and from which state the answer was given.
    mutating func stamp(_ vitals: RaftNode<KeyValueMachine>.Vitals, leader description: LeaderDescription?) {
        term = vitals.term
        appliedIndex = vitals.appliedIndex
        leader = description?.name
    }
}
