import Foundation
import Logging
import Synchronization

/// What a request to stop means at each point of a node's life.
final class ServeLifecycle: Sendable {
    private enum Phase { case starting, serving, stopping }

    private let phase = Mutex(Phase.starting)
    private let requests = AsyncStream.makeStream(of: String.self)
    private let logger: Logger

    init(logger: Logger) { self.logger = logger }

    /// The node runs: from now on it stops in good order.
    func started() { phase.withLock { $0 = .serving } }

    /// Waits for the first request to stop after ``started()``, and names it.
    func stopRequest() async -> String {
        for await cause in requests.stream { return cause }
        return "the end of the program"
    }

    /// A signal came.
    func stop(_ cause: String) {
        let now = phase.withLock { phase in
            defer { if phase == .serving { phase = .stopping } }
            return phase
        }
        switch now {
        case .starting:
            // It has acknowledged nothing yet; one that waits to be taken into a cluster may wait for long.
            logger.notice("stopping before it served", metadata: ["cause": "\(cause)"])
            _exit(EXIT_SUCCESS)
        case .serving: requests.continuation.yield(cause)
        case .stopping:
            logger.warning("stopping at once; nothing that was acknowledged is lost", metadata: ["cause": "\(cause)"])
            _exit(ExitStatus.temporary.rawValue)
        }
    }
}
