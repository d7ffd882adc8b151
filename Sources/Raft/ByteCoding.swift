/// Writes the fixed little-endian forms that the core's own records use.
package struct ByteWriter {
    package private(set) var bytes: [UInt8] = []

    package init() {}

    package mutating func append(_ more: [UInt8]) { bytes += more }

    package mutating func write(_ integer: some FixedWidthInteger) {
        withUnsafeBytes(of: integer.littleEndian) { bytes.append(contentsOf: $0) }
    }

    package mutating func write(_ text: String) {
        let utf8 = Array(text.utf8)
        precondition(utf8.count <= Int(UInt16.max), "a name or an address is at most 65,535 bytes")
        write(UInt16(utf8.count))
        bytes.append(contentsOf: utf8)
    }
}

/// Reads what ``ByteWriter`` wrote. Every read is checked: bytes from a peer or a disk never trap.
package struct ByteReader {
    private var rest: ArraySlice<UInt8>

    package init(_ bytes: some Sequence<UInt8>) { rest = ArraySlice(bytes) }

    package var isAtEnd: Bool { rest.isEmpty }

    package var remaining: ArraySlice<UInt8> { rest }

    package mutating func read<Integer: FixedWidthInteger>(_: Integer.Type = Integer.self) -> Integer? {
        let size = MemoryLayout<Integer>.size
        guard rest.count >= size else { return nil }
        let value = rest.withUnsafeBytes { Integer(littleEndian: $0.loadUnaligned(as: Integer.self)) }
        rest.removeFirst(size)
        return value
    }

    package mutating func readString() -> String? {
        guard let count = read(UInt16.self), rest.count >= Int(count) else { return nil }
        defer { rest.removeFirst(Int(count)) }
        return String(validating: rest.prefix(Int(count)), as: UTF8.self)
    }
}

extension Configuration {
    /// The format's first byte; others are refused.
    private static let format: UInt8 = 1
    private static let roleVoter: UInt8 = 1
    private static let roleOutgoing: UInt8 = 2
    private static let roleLearner: UInt8 = 4
    private static let roleLearnerNext: UInt8 = 8

    /// Whether a member can have these roles together; see the lists of ``Configuration``.
    fileprivate static func isPossible(_ roles: UInt8) -> Bool {
        switch roles {
        case roleVoter, roleOutgoing, roleVoter | roleOutgoing, roleLearner, roleOutgoing | roleLearnerNext: true
        default: false
        }
    }

    /// The configuration as bytes, for log entries, snapshots and frames.
    public func encode() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(Self.format)
        writer.write(UInt16(members.count))
        for member in members {
            var roles: UInt8 = 0
            if voters.contains(member.id) { roles |= Self.roleVoter }
            if outgoing.contains(member.id) { roles |= Self.roleOutgoing }
            if learners.contains(member.id) { roles |= Self.roleLearner }
            if learnersNext.contains(member.id) { roles |= Self.roleLearnerNext }
            writer.write(member.id.rawValue)
            writer.write(roles)
            switch member.promotion {
            case .manual: writer.write(UInt8(0))
            case .voter: writer.write(UInt8(1))
            case .replacing(let id):
                writer.write(UInt8(2))
                writer.write(id.rawValue)
            }
            writer.write(member.name)
            writer.write(member.peerAddress)
            writer.write(member.clientAddress)
        }
        return writer.bytes
    }

    /// The inverse of ``encode()``; nil for anything that it cannot have written.
    public init?(decoding bytes: some Sequence<UInt8>) {
        var reader = ByteReader(bytes)
        guard reader.read(UInt8.self) == Self.format, let count = reader.read(UInt16.self) else { return nil }
        var members: [Member] = []
        var lists: [UInt8: [ServerID]] = [:]
        for _ in 0..<count {
            guard let (member, roles) = reader.readMember() else { return nil }
            guard members.last.map({ $0.id < member.id }) ?? true else { return nil }
            members.append(member)
            for role in [Self.roleVoter, Self.roleOutgoing, Self.roleLearner, Self.roleLearnerNext]
            where roles & role != 0 {
                lists[role, default: []].append(member.id)
            }
        }
        guard reader.isAtEnd else { return nil }
        self.init(
            members: members,
            voters: lists[Self.roleVoter] ?? [],
            outgoing: lists[Self.roleOutgoing] ?? [],
            learners: lists[Self.roleLearner] ?? [],
            learnersNext: lists[Self.roleLearnerNext] ?? []
        )
    }
}

extension ByteReader {
    fileprivate mutating func readMember() -> (Member, roles: UInt8)? {
        guard let id = read(UInt64.self), id != 0, let roles = read(UInt8.self), Configuration.isPossible(roles),
            let promotionKind = read(UInt8.self)
        else { return nil }
        let promotion: Member.Promotion
        switch promotionKind {
        case 0: promotion = .manual
        case 1: promotion = .voter
        case 2:
            guard let replaced = read(UInt64.self) else { return nil }
            promotion = .replacing(ServerID(replaced))
        default: return nil
        }
        guard let name = readString(), let peer = readString(), let client = readString() else { return nil }
        let member = Member(
            id: ServerID(id),
            name: name,
            peerAddress: peer,
            clientAddress: client,
            promotion: promotion
        )
        return (member, roles)
    }
}
