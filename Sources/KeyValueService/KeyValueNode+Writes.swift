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
        lease: LeaseChoice = .none,
        condition: Condition = .none,
        returnsPrevious: Bool = false,
        options: CommandOptions = .none,
        deadline: NIODeadline,
        completion: @escaping WriteCompletion
    ) {
        let command = key.withUnsafeBytes { key in
            value.withUnsafeReadableBytes { value in
                Command.encodePut(
                    key: key,
                    value: value,
                    contentType: contentType,
                    lease: lease,
                    condition: condition,
                    returnsPrevious: returnsPrevious,
                    options: options,
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
        options: CommandOptions = .none,
        deadline: NIODeadline,
        completion: @escaping WriteCompletion
    ) {
        let command = Command.delete(key: key[...], condition: condition, returnsPrevious: returnsPrevious)
        propose(
            command.encode(options: options, timestampMilliseconds: stamp),
            deadline: deadline,
            completion: completion
        )
    }

    /// Removes every key that begins with `prefix` in one atomic write. An empty prefix names all keys.
    public func deletePrefix(
        _ prefix: [UInt8],
        options: CommandOptions = .none,
        deadline: NIODeadline,
        completion: @escaping WriteCompletion
    ) {
        let command = Command.deletePrefix(prefix[...])
        propose(
            command.encode(options: options, timestampMilliseconds: stamp),
            deadline: deadline,
            completion: completion
        )
    }

    /// - Parameter isGivenUp: asked before each attempt; once it says so, the command is not handed to the node any more.
    func propose(
        _ command: [UInt8],
        deadline: NIODeadline,
        unless isGivenUp: (@Sendable () -> Bool)? = nil,
        completion: @escaping WriteCompletion
    ) {
        Self.propose(command, to: node, operations, deadline: deadline, unless: isGivenUp, completion: completion)
    }

    static func propose(
        _ command: [UInt8],
        to node: RaftNode<KeyValueMachine>,
        _ operations: OperationTable,
        deadline: NIODeadline,
        unless isGivenUp: (@Sendable () -> Bool)? = nil,
        completion: @escaping WriteCompletion
    ) {
        // What became of a write is told from this node's own state: a wrong one would tell wrong things.
        if node.isQuarantined {
            return completion(.failure(ServiceError(.quarantined, leader: node.vitals.leader?.id)))
        }
        let operation = Operation(
            deadline: deadline,
            bytes: command.count,
            isWrite: true,
            submit: { operation in
                // Every attempt so far was certainly not executed.
                if let isGivenUp, isGivenUp() {
                    if operations.finish(operation) { completion(.failure(ServiceError(.timedOut))) }
                    return
                }
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
