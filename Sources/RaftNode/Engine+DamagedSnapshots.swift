internal import Logging
internal import NIOCore
internal import Raft
internal import RaftDriver
internal import RaftStorage
internal import RaftTransport

/// Snapshots that turn out to be of no use: they are set aside, sent to nobody, and others are taken.
extension Engine {
    /// A receiver did not take the snapshot for sound, or it could not be read. Looks at the own file, on the thread that reads snapshots, and
    /// sets it aside when it is at fault; then `completion` is called, on the loop.
    func examine(_ descriptor: SnapshotDescriptor, _ completion: @escaping @Sendable () -> Void) {
        queue(on: streams) {
            let result = Result { () throws(StorageError) in try self.snapshots.verify(descriptor) }
            self.loop.execute {
                switch result {
                case .success:
                    self.logger.notice(
                        "the snapshot in doubt is sound here",
                        metadata: ["at": "\(descriptor.position)"]
                    )
                    completion()
                case .failure(let error) where error.isDamage: self.setAside(descriptor, because: error, completion)
                case .failure(let error):
                    self.logger.warning("the snapshot in doubt cannot be examined", metadata: ["error": "\(error)"])
                    completion()
                }
            }
        }
    }

    /// The others, and the state itself, have all that is in it.
    func setAside(
        _ descriptor: SnapshotDescriptor,
        because error: StorageError,
        _ completion: @escaping @Sendable () -> Void
    ) {
        queue(on: streams) {
            let result = Result { (try self.snapshots.setAside(descriptor), try self.snapshots.list().first) }
            self.loop.execute {
                switch result {
                case .success(let (name, newest)):
                    if let name { self.reportSetAside(name, error) }
                    if self.latestSnapshot == descriptor {
                        self.latestSnapshot = newest
                        let (index, bytes) = (newest?.position.index ?? 0, Int(newest?.fileSize ?? 0))
                        self.act { $0.snapshotLost(newest: index, bytes: bytes, into: &$1) }
                    } else {
                        self.act { $0.requestSnapshot(into: &$1) }
                    }
                    completion()
                case .failure(let error): self.fail("a damaged snapshot cannot be set aside: \(error)")
                }
            }
        }
    }

    private func reportSetAside(_ name: String, _ error: StorageError) {
        logger.error(
            "a snapshot is damaged and was set aside; another one is taken",
            metadata: ["error": "\(error)", "file": "\(snapshots.directory)/\(name)"]
        )
    }

    /// The state cannot be loaded from what was just written of it, whose bytes are right: a record of it is wrong.
    func stateIsUnsound(_ error: StorageError, durable position: LogPosition) {
        verified(.success(.differs("a snapshot of it cannot be loaded: \(error.message)")))
        act { $0.lackedRoom(durable: position, into: &$1) }
    }
}

extension TransportError {
    /// Whether the snapshot itself may be the cause.
    var doubtsSnapshot: Bool { code == .readFailed || snapshotRefusal?.kind == .damaged }
}
