public import KeyValue
public import NIOCore
import Raft
import RaftNode

extension KeyValueNode {
    /// Sets a key.
    ///
    /// - Parameters:
    ///   - key: 1 to ``KeyValue/KeyValueLimits/maximumKeyLength`` bytes; the caller has checked it. Others come back as
    ///     `Outcome.invalid`.
    ///   - value: its readable bytes. They are copied once, into the command.
    ///   - returnsPrevious: the outcome holds what was there before, which costs a read.
    public func put(
        key: [UInt8],
        value: ByteBuffer,
        contentType: String?,
        condition: Condition = .none,
        returnsPrevious: Bool = false,
        deadline: NIODeadline,
        completion: @escaping WriteCompletion
    ) {
        let command = key.withUnsafeBytes { key in
            value.withUnsafeReadableBytes { value in
                Command.encodePut(
                    key: key,
                    value: value,
                    contentType: contentType,
                    condition: condition,
                    returnsPrevious: returnsPrevious,
                    timestampMilliseconds: stamp
                )
            }
        }
        propose(command, deadline: deadline, completion: completion)
    }

    /// Removes a key, there or not.
    public func delete(
        key: [UInt8],
        condition: Condition = .none,
        returnsPrevious: Bool = false,
        deadline: NIODeadline,
        completion: @escaping WriteCompletion
    ) {
        let command = Command.delete(key: key[...], condition: condition, returnsPrevious: returnsPrevious)
        propose(
            command.encode(timestampMilliseconds: stamp),
            deadline: deadline,
            completion: completion
        )
    }

    /// Removes every key that begins with `prefix` in one atomic write. An empty prefix names all keys.
    public func deletePrefix(_ prefix: [UInt8], deadline: NIODeadline, completion: @escaping WriteCompletion) {
        let command = Command.deletePrefix(prefix[...])
        propose(
            command.encode(timestampMilliseconds: stamp),
            deadline: deadline,
            completion: completion
        )
    }

    private func propose(_ command: [UInt8], deadline: NIODeadline, completion: @escaping WriteCompletion) {
        let node = self.node
        // What became of a write is told from this node's own state: a wrong one would tell wrong things.
        if node.isQuarantined { return completion(.failure(quarantined)) }
        let operations = self.operations
        let operation = Operation(
            deadline: deadline,
            bytes: command.count,
            isWrite: true,
            submit: { operation in
                node.propose(command) { outcome in
                    switch outcome {
                    case .applied(.success(let outcome), let position):
                        guard operations.finish(operation) else { return }
                        completion(.success(Written(outcome: outcome, position: position)))
                    case .applied(.failure, _):
                        // Committed, but this node's state is unreadable: others have executed it, this one cannot tell how.
                        guard operations.finish(operation) else { return }
                        completion(.failure(ServiceError(.outcomeUnknown, mayHaveExecuted: true)))
                    case .rejected(let rejection):
                        operations.reject(operation, rejection)
                    case .unknown(let leader):
                        guard operations.finish(operation) else { return }
                        completion(.failure(ServiceError(.outcomeUnknown, mayHaveExecuted: true, leader: leader)))
                    }
                }
            },
            fail: { completion(.failure($0)) }
        )
        operations.start(operation)
    }
}
