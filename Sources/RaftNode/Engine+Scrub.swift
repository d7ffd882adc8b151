internal import Logging
internal import NIOCore
internal import Raft
internal import RaftDriver
internal import RaftStorage

/// Reading all files again, slowly, to find what the disk has damaged before it is needed.
extension Engine {
    /// What is being read, and how far.
    enum ScrubPart: Sendable {
        case log(behind: LogIndex?)
        case state(behind: [UInt8]?)
        /// Snapshots that are still to be read, the first with its open file.
        case snapshots([SnapshotDescriptor], SnapshotReader?)
    }

    /// How long one step reads, and how long the disk then has peace of it.
    private static var stepMilliseconds: Int { 15 }
    private static var pause: TimeAmount { .milliseconds(150) }

    /// Plans the first pass.
    func planScrub() {
        guard options.scrubPeriodMilliseconds > 0 else { return }
        scheduleScrub(in: .milliseconds(Int64(min(options.scrubPeriodMilliseconds, 20_000))), .log(behind: nil))
    }

    private func scheduleScrub(in time: TimeAmount, _ part: ScrubPart) {
        guard isRunning else { return }
        scrubTask = loop.scheduleTask(in: time) {
            guard self.isRunning else { return }
            self.queue(on: self.background) {
                let result = Result { try self.scrubStep(part) }
                self.loop.execute { self.scrubbed(result, part) }
            }
        }
    }

    /// On the loop.
    private func scrubbed(_ result: Result<ScrubPart?, any Error>, _ part: ScrubPart) {
        switch result {
        case .success(let next?): scheduleScrub(in: Self.pause, next)
        case .success(nil):
            logger.info("read all files again: nothing is damaged")
            scheduleScrub(in: .milliseconds(Int64(options.scrubPeriodMilliseconds)), .log(behind: nil))
        case .failure(let error):
            switch part {
            case .log:
                fail("the log's file is damaged: \(error)")
            case .state:
                fail(
                    "the state's file is damaged (\(error)); start the node again: it builds the state anew, nothing is lost"
                )
            case .snapshots(let left, _):
                guard let damaged = left.first, let error = error as? StorageError, error.isDamage else {
                    return fail("a snapshot cannot be read: \(error)")
                }
                setAside(damaged, because: error) {
                    self.scheduleScrub(in: Self.pause, .snapshots(Array(left.dropFirst()), nil))
                }
            }
        }
    }

    /// On the background thread; nil at the end of a pass.
    private func scrubStep(_ part: ScrubPart) throws -> ScrubPart? {
        switch part {
        case .log(let index):
            if let next = try store.scrub(behind: index, milliseconds: Self.stepMilliseconds) {
                return .log(behind: next)
            }
            return .state(behind: nil)
        case .state(let key):
            if let next = try machine.scrub(behind: key, milliseconds: Self.stepMilliseconds) {
                return .state(behind: next)
            }
            return .snapshots(try snapshots.list(), nil)
        case .snapshots(let left, let reader):
            guard let first = left.first else { return nil }
            let open: SnapshotReader
            do throws(StorageError) {
                if let reader { open = reader } else { open = try snapshots.open(first) }
            } catch {
                // A newer one took its place meanwhile.
                guard error.code == .missing else { throw error }
                return .snapshots(Array(left.dropFirst()), nil)
            }
            for _ in 0..<4 where try open.read() == nil { return .snapshots(Array(left.dropFirst()), nil) }
            return .snapshots(left, open)
        }
    }
}
