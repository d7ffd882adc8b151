internal import Synchronization

/// What other threads ask of the Raft loop. Bounded; wakes the loop only when nothing was waiting.
final class Inbox<Output: Sendable>: Sendable {
    struct Proposal: Sendable {
        var command: [UInt8]
        var completion: @Sendable (ProposalOutcome<Output>) -> Void
    }

    typealias Read = @Sendable (ReadOutcome) -> Void

    struct Contents: Sendable {
        var proposals: [Proposal] = []
        var reads: [Read] = []
        var bytes = 0
        fileprivate var isClosed = false
        /// The loop has been told that something waits.
        fileprivate var isAnnounced = false
    }

    enum Admission { case accepted(wake: Bool), full, closed }

    private let contents = Mutex(Contents())
    private let maxCount: Int
    private let maxBytes: Int

    init(maxCount: Int, maxBytes: Int) {
        self.maxCount = maxCount
        self.maxBytes = maxBytes
    }

    func add(_ proposal: Proposal) -> Admission {
        contents.withLock { contents in
            guard !contents.isClosed else { return .closed }
            guard contents.proposals.count < maxCount, contents.bytes + proposal.command.count <= maxBytes else {
                return .full
            }
            contents.bytes += proposal.command.count
            contents.proposals.append(proposal)
            return .accepted(wake: contents.announce())
        }
    }

    func add(_ read: @escaping Read) -> Admission {
        contents.withLock { contents in
            guard !contents.isClosed else { return .closed }
            guard contents.reads.count < maxCount else { return .full }
            contents.reads.append(read)
            return .accepted(wake: contents.announce())
        }
    }

    /// All that waits.
    func take() -> Contents {
        contents.withLock { contents in
            defer {
                let isClosed = contents.isClosed
                contents = Contents()
                contents.isClosed = isClosed
            }
            return contents
        }
    }

    /// Nothing is accepted any more.
    func close() { contents.withLock { $0.isClosed = true } }
}

extension Inbox.Contents {
    fileprivate mutating func announce() -> Bool {
        defer { isAnnounced = true }
        return !isAnnounced
    }
}
