public import KeyValue
public import NIOCore
import Raft

/// For callers that have a task anyway.
extension KeyValueNode {
    /// Sets a key. See ``put(key:value:contentType:lease:condition:returnsPrevious:options:deadline:completion:)``.
    public func put(
        key: [UInt8],
        value: ByteBuffer,
        contentType: String? = nil,
        lease: LeaseChoice = .none,
        condition: Condition = .none,
        returnsPrevious: Bool = false,
        options: CommandOptions = .none,
        timeout: TimeAmount? = nil
    ) async throws(ServiceError) -> Written {
        try await result { completion in
            self.put(
                key: key,
                value: value,
                contentType: contentType,
                lease: lease,
                condition: condition,
                returnsPrevious: returnsPrevious,
                options: options,
                deadline: self.deadline(after: timeout),
                completion: completion
            )
        }.get()
    }

    /// Removes a key, there or not.
    public func delete(
        key: [UInt8],
        condition: Condition = .none,
        returnsPrevious: Bool = false,
        options: CommandOptions = .none,
        timeout: TimeAmount? = nil
    ) async throws(ServiceError) -> Written {
        try await result { completion in
            self.delete(
                key: key,
                condition: condition,
                returnsPrevious: returnsPrevious,
                options: options,
                deadline: self.deadline(after: timeout),
                completion: completion
            )
        }.get()
    }

    /// Removes every key that begins with `prefix`.
    public func deletePrefix(_ prefix: [UInt8], timeout: TimeAmount? = nil) async throws(ServiceError) -> Written {
        try await result { completion in
            self.deletePrefix(prefix, deadline: self.deadline(after: timeout), completion: completion)
        }.get()
    }

    /// Returns when a read of ``store`` is linearizable.
    public func confirmRead(timeout: TimeAmount? = nil) async throws(ServiceError) {
        let confirmed: Result<UInt64, ServiceError> = await result { completion in
            self.confirmRead(deadline: self.deadline(after: timeout), completion: completion)
        }
        _ = try confirmed.get()
    }

    func result<Value: Sendable>(
        _ start: (@escaping @Sendable (Result<Value, ServiceError>) -> Void) -> Void
    ) async -> Result<Value, ServiceError> {
        await withCheckedContinuation { continuation in
            start { continuation.resume(returning: $0) }
        }
    }
}
