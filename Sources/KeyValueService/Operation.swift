import NIOCore
import RaftNode

/// One request on its way through the node.
///
/// An operation is completed by whoever takes it out of its ``OperationTable``: the node's answer or the clock. That is what makes
/// it exactly once.
final class Operation: Sendable {
    /// What is done once an operation has left its table.
    enum Completion: Sendable {
        case succeeded
        case failed(ServiceError)
    }

    enum Phase: Sendable {
        /// The node has it.
        case inFlight
        /// It was certainly not executed, and is tried again at `at`.
        case waiting(Rejection, at: NIODeadline)
    }

    struct State: Sendable {
        /// The place in the table; nil once it has been taken out.
        var slot: Int?
        var phase = Phase.inFlight
        var attempts = 0
    }

    let deadline: NIODeadline
    /// What it counts against the bound in bytes.
    let bytes: Int
    /// A write that is not answered in time may have been executed.
    let isWrite: Bool
    /// Hands it to the node, again.
    let submit: @Sendable (Operation) -> Void
    let fail: @Sendable (ServiceError) -> Void
    // Every access is under the lock of the table the operation is in, and it is in one only.
    nonisolated(unsafe) var state = State()

    init(
        deadline: NIODeadline,
        bytes: Int,
        isWrite: Bool,
        submit: @escaping @Sendable (Operation) -> Void,
        fail: @escaping @Sendable (ServiceError) -> Void
    ) {
        self.deadline = deadline
        self.bytes = bytes
        self.isWrite = isWrite
        self.submit = submit
        self.fail = fail
    }
}
