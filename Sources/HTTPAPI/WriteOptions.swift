import Crypto
import HTTPTypes
import KeyValue
import NIOCore

/// What goes with any write: `Idempotency-Key` and `Kontiki-Fence`.
enum WriteOptions {
    static func idempotencyKey(_ fields: RequestFields) throws(Problem) -> [UInt8]? {
        guard let text = fields.idempotencyKey else { return nil }
        guard (1...KeyValueLimits.maximumIdempotencyKeyLength).contains(text.utf8.count),
            text.utf8.allSatisfy({ (0x20...0x7E).contains($0) })
        else {
            throw .invalidParameter(
                "Idempotency-Key",
                "must be 1 to \(KeyValueLimits.maximumIdempotencyKeyLength) printable ASCII characters."
            )
        }
        return Array(text.utf8)
    }

    /// `NAME=TOKEN`. The name may be percent-encoded, since fields hold no other bytes reliably, and may hold `=`.
    static func fence(_ fields: RequestFields) throws(Problem) -> Fence? {
        guard let text = fields.fence else { return nil }
        guard let equals = text.lastIndex(of: "="), let token = UInt64(text[text.index(after: equals)...]) else {
            throw .invalidParameter(
                "Kontiki-Fence",
                "is NAME=TOKEN: a lock's name and the token that it was granted with."
            )
        }
        var name: [UInt8] = []
        do throws(TargetError) {
            try PercentDecoding.decode(text[..<equals].utf8, plusIsSpace: false, into: &name)
        } catch {
            throw .invalidParameter("Kontiki-Fence", "write characters other than letters and digits of a name as %XX.")
        }
        guard Command.validate(lockName: name) == nil else {
            throw .invalidParameter("Kontiki-Fence", "a lock's name has 1 to 255 bytes of UTF-8.")
        }
        return Fence(lock: name, token: token)
    }
}

/// Tells whether two requests under one idempotency key are one: a prefix of SHA-256 over what the request means. How long it may take
/// and by whom it is answered is no part of it.
struct Fingerprint {
    private var hash = SHA256()

    /// The length goes in front, so that what belongs to one part is not taken for another's.
    mutating func add(_ bytes: some ContiguousBytesView) {
        bytes.withBytes { bytes in
            withUnsafeBytes(of: UInt64(bytes.count).bigEndian) { hash.update(bufferPointer: $0) }
            hash.update(bufferPointer: bytes)
        }
    }

    mutating func add(_ text: String?) {
        // An absent part differs from an empty one.
        guard let text else { return add([0xFF]) }
        add(Array(text.utf8))
    }

    func finish() -> UInt128 {
        hash.finalize().prefix(16).reduce(0) { $0 << 8 | UInt128($1) }
    }
}

/// What a fingerprint reads.
protocol ContiguousBytesView {
    func withBytes(_ body: (UnsafeRawBufferPointer) -> Void)
}

extension [UInt8]: ContiguousBytesView {
    func withBytes(_ body: (UnsafeRawBufferPointer) -> Void) { withUnsafeBytes(body) }
}

extension ByteBuffer: ContiguousBytesView {
    func withBytes(_ body: (UnsafeRawBufferPointer) -> Void) { withUnsafeReadableBytes(body) }
}

extension KeyRequest {
    /// With `body`, which the fingerprint is made of.
    func options(body: ByteBuffer) -> CommandOptions {
        guard let idempotencyKey else { return CommandOptions(fence: fence) }
        var fingerprint = Fingerprint()
        fingerprint.add("\(method)")
        fingerprint.add(key)
        fingerprint.add("\(precondition) \(lease) \(wantsPrevious) \(increment)")
        fingerprint.add(contentType)
        fingerprint.add(fence?.lock ?? [])
        fingerprint.add("\(fence?.token ?? 0)")
        fingerprint.add(body)
        return CommandOptions(
            idempotency: IdempotencyKey(key: idempotencyKey, fingerprint: fingerprint.finish()),
            fence: fence
        )
    }
}

extension APIRequest {
    func options() throws(Problem) -> CommandOptions {
        let fence = try WriteOptions.fence(fields)
        guard let key = try WriteOptions.idempotencyKey(fields) else { return CommandOptions(fence: fence) }
        var fingerprint = Fingerprint()
        fingerprint.add(method.rawValue)
        for segment in segments { fingerprint.add(segment) }
        for parameter in query.parameters where parameter.name != "timeout" && parameter.name != "redirect" {
            fingerprint.add(parameter.name)
            fingerprint.add(parameter.value)
        }
        fingerprint.add(fields.fence)
        fingerprint.add(body)
        return CommandOptions(
            idempotency: IdempotencyKey(key: key, fingerprint: fingerprint.finish()),
            fence: fence
        )
    }
}

/// Leases as the API writes them.
enum LeaseText {
    static let ttlMilliseconds =
        Int(KeyValueLimits.ttlMilliseconds.lowerBound)...Int(KeyValueLimits.ttlMilliseconds.upperBound)

    /// 16 hexadecimal digits.
    static func text(_ id: UInt64) -> String {
        let digits = String(id, radix: 16)
        return String(repeating: "0", count: 16 - digits.utf8.count) + digits
    }

    /// 1 to 16 hexadecimal digits that are not all 0; nil for others.
    static func id(_ text: some Collection<UInt8>) -> UInt64? {
        guard (1...16).contains(text.count) else { return nil }
        var id: UInt64 = 0
        for byte in text {
            guard let digit = PercentDecoding.hexDigit(byte) else { return nil }
            id = id << 4 | UInt64(digit)
        }
        return id == 0 ? nil : id
    }
}

extension BodyObject {
    /// A lease's identity.
    func leaseID(_ name: String) throws(Problem) -> UInt64? {
        guard let text = try text(name) else { return nil }
        guard let id = LeaseText.id(text.utf8) else {
            throw problem(name, "is no lease; it has 1 to 16 hexadecimal digits")
        }
        return id
    }

    /// `ttl` or `lease`, or neither.
    func leaseChoice() throws(Problem) -> LeaseChoice {
        let ttl = try duration("ttl", in: LeaseText.ttlMilliseconds)
        let lease = try leaseID("lease")
        guard ttl == nil || lease == nil else { throw problem("ttl", "and 'lease' are two ways to expire; give one") }
        if let lease { return .attached(lease) }
        return ttl.map { .ttl(milliseconds: UInt64($0)) } ?? .none
    }
}
