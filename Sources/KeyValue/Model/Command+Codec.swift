extension Command {
    /// The encoded form, stamped with the cluster's time. A command that ``validate()`` refuses is encoded to bytes that
    /// are refused when they are applied.
    public func encode(options: CommandOptions = .none, timestampMilliseconds: UInt64) -> [UInt8] {
        switch self {
        case .put(let put):
            put.key.withUnsafeBytes { key in
                put.value.withUnsafeBytes { value in
                    Self.encodePut(
                        key: key,
                        value: value,
                        contentType: put.contentType,
                        lease: put.lease,
                        condition: put.condition,
                        returnsPrevious: put.returnsPrevious,
                        options: options,
                        timestampMilliseconds: timestampMilliseconds
                    )
                }
            }
        case .delete(let key, let condition, let returnsPrevious):
            Parts(.delete, options, timestampMilliseconds, condition, returnsPrevious: returnsPrevious).encode(key: key)
        case .deletePrefix(let prefix): Parts(.deletePrefix, options, timestampMilliseconds).encode(key: prefix)
        case .increment(let key, let by, let condition):
            Parts(.increment, options, timestampMilliseconds, condition)
                .encode(key: key, value: by.littleEndianBytes[...])
        case .transaction: encode(.transaction, options, timestampMilliseconds)
        case .grantLease: encode(.grantLease, options, timestampMilliseconds)
        case .keepLeasesAlive: encode(.keepLeasesAlive, options, timestampMilliseconds)
        case .revokeLease: encode(.revokeLease, options, timestampMilliseconds)
        case .expireLeases: encode(.expireLeases, options, timestampMilliseconds)
        case .acquireLock: encode(.acquireLock, options, timestampMilliseconds)
        case .releaseLock: encode(.releaseLock, options, timestampMilliseconds)
        }
    }

    private func encode(
        _ operation: CommandLayout.Operation,
        _ options: CommandOptions,
        _ timestampMilliseconds: UInt64
    ) -> [UInt8] {
        Parts(operation, options, timestampMilliseconds).encode(value: encodedBody()[...])
    }

    /// Encodes a put straight from where its bytes lie: one allocation, one copy.
    public static func encodePut(
        key: UnsafeRawBufferPointer,
        value: UnsafeRawBufferPointer,
        contentType: String?,
        lease: LeaseChoice = .none,
        condition: Condition = .none,
        returnsPrevious: Bool = false,
        options: CommandOptions = .none,
        timestampMilliseconds: UInt64
    ) -> [UInt8] {
        var parts = Parts(.put, options, timestampMilliseconds, condition, returnsPrevious: returnsPrevious)
        parts.contentType = contentType
        parts.lease = lease
        return parts.encode(key: key, value: value)
    }

    /// Puts the cluster's time into an encoded command that another node made. Does nothing to bytes that are no command.
    public static func stamp(_ payload: inout [UInt8], timestampMilliseconds: UInt64) {
        guard payload.count >= CommandLayout.headerLength, payload[0] == CommandLayout.version else { return }
        payload.withUnsafeMutableBytes {
            $0.storeBytes(
                of: timestampMilliseconds.littleEndian,
                toByteOffset: CommandLayout.timestampOffset,
                as: UInt64.self
            )
        }
    }

    /// The command in an entry's payload, as slices of it where it is about one key, what goes with it, and the time that it is stamped with.
    public static func decode(
        _ payload: [UInt8]
    ) throws(InvalidCommand) -> (command: Command, options: CommandOptions, timestampMilliseconds: UInt64) {
        let (layout, tail) = try payload.withUnsafeBufferPointer {
            (bytes) throws(InvalidCommand) -> (CommandLayout, (lease: LeaseChoice, options: CommandOptions)) in
            let bytes = UnsafeRawBufferPointer(bytes)
            let layout = try CommandLayout(decoding: bytes)
            return (layout, try layout.decodeTail(bytes))
        }
        return (try decode(payload, layout, tail.lease), tail.options, layout.timestampMilliseconds)
    }

    /// The command that a layout tells of. `payload` are the bytes that it was decoded from.
    static func decode(
        _ payload: [UInt8],
        _ layout: CommandLayout,
        _ lease: LeaseChoice
    ) throws(InvalidCommand) -> Command {
        switch layout.operation {
        case .put:
            return .put(
                Put(
                    key: payload[layout.key],
                    value: payload[layout.value],
                    contentType: layout.contentType == ContentTypes.spelledOut
                        ? String(decoding: payload[layout.spelledContentType], as: UTF8.self)
                        : ContentTypes.name(of: layout.contentType),
                    lease: lease,
                    condition: layout.condition,
                    returnsPrevious: layout.returnsPrevious
                )
            )
        case .delete:
            return .delete(
                key: payload[layout.key],
                condition: layout.condition,
                returnsPrevious: layout.returnsPrevious
            )
        case .deletePrefix: return .deletePrefix(payload[layout.key])
        case .increment:
            let by = payload.withUnsafeBytes {
                Int64(littleEndian: $0.loadUnaligned(fromByteOffset: layout.value.lowerBound, as: Int64.self))
            }
            return .increment(key: payload[layout.key], by: by, condition: layout.condition)
        default:
            let body = payload[layout.value]
            let command = body.withUnsafeBytes { Command(layout.operation, body: $0) }
            guard let command else { throw .malformed }
            if let reason = command.validate() { throw reason }
            return command
        }
    }

    /// What is written of any command besides its key and value.
    private struct Parts {
        let operation: CommandLayout.Operation
        let options: CommandOptions
        let timestampMilliseconds: UInt64
        let condition: Condition
        let returnsPrevious: Bool
        var contentType: String?
        var lease = LeaseChoice.none

        init(
            _ operation: CommandLayout.Operation,
            _ options: CommandOptions,
            _ timestampMilliseconds: UInt64,
            _ condition: Condition = .none,
            returnsPrevious: Bool = false
        ) {
            self.operation = operation
            self.options = options
            self.timestampMilliseconds = timestampMilliseconds
            self.condition = condition
            self.returnsPrevious = returnsPrevious
        }

        private var flags: CommandLayout.Flags {
            var flags: CommandLayout.Flags = returnsPrevious ? .returnsPrevious : []
            switch lease {
            case .none: break
            case .attached: flags.insert(.leaseAttached)
            case .ttl: flags.insert(.leaseTTL)
            }
            if options.idempotency != nil { flags.insert(.idempotency) }
            if options.fence != nil { flags.insert(.fence) }
            return flags
        }

        private var tailLength: Int {
            (lease == .none ? 0 : 8) + (options.idempotency.map { 17 + $0.key.count } ?? 0)
                + (options.fence.map { 9 + $0.lock.count } ?? 0)
        }

        func encode(key: ArraySlice<UInt8>? = nil, value: ArraySlice<UInt8> = []) -> [UInt8] {
            value.withUnsafeBytes { value in
                guard let key else { return encode(key: nil, value: value) }
                return key.withUnsafeBytes { encode(key: $0, value: value) }
            }
        }

        func encode(key: UnsafeRawBufferPointer?, value: UnsafeRawBufferPointer) -> [UInt8] {
            let typeIdentifier = ContentTypes.identifier(of: contentType)
            let spelled = typeIdentifier == ContentTypes.spelledOut ? contentType ?? "" : ""
            let (kind, revision) = condition.encoded
            let rawKeyLength = key.map { 1 + $0.count } ?? 0
            let total = CommandLayout.headerLength + rawKeyLength + spelled.utf8.count + value.count + tailLength
            return [UInt8](unsafeUninitializedCapacity: total) { buffer, count in
                var writer = BufferWriter(UnsafeMutableRawBufferPointer(buffer))
                writer.write(CommandLayout.version)
                writer.write(operation.rawValue)
                writer.write(flags.rawValue)
                writer.write(timestampMilliseconds)
                writer.write(kind)
                writer.write(typeIdentifier)
                // Too long to be counted is too long to be valid: the lengths then do not add up, and decoding refuses it.
                writer.write(UInt16(clamping: spelled.utf8.count))
                writer.write(revision)
                writer.write(UInt32(clamping: rawKeyLength))
                writer.write(UInt32(clamping: value.count))
                if let key {
                    writer.write(Space.keys.rawValue)
                    writer.write(raw: key)
                }
                writer.write(raw: spelled)
                writer.write(raw: value)
                if tailLength > 0 { writeTail(&writer) }
                count = writer.offset
            }
        }

        private func writeTail(_ writer: inout BufferWriter) {
            switch lease {
            case .none: break
            case .attached(let number), .ttl(let number): writer.write(number)
            }
            if let idempotency = options.idempotency {
                writer.write(UInt8(clamping: idempotency.key.count))
                idempotency.key.withUnsafeBytes { writer.write(raw: $0) }
                writer.write(idempotency.fingerprint)
            }
            if let fence = options.fence {
                writer.write(UInt8(clamping: fence.lock.count))
                fence.lock.withUnsafeBytes { writer.write(raw: $0) }
                writer.write(fence.token)
            }
        }
    }
}
