internal import Raft

/// What a node asks the leader to do for an operator, and the leader's answer; carried by the transport's control requests.
enum NodeCall: Hashable, Sendable {
    case change(MembershipRequest)
    /// Take in the server that answers at an address.
    case addMember(name: String?, peerAddress: String, replacing: ServerID?)
    case transfer(to: ServerID?)

    func encode() -> [UInt8] {
        var writer = ByteWriter()
        switch self {
        case .change(.add(let member)):
            writer.write(UInt8(1))
            writer.append(Configuration(voters: [], learners: [member]).encode())
        case .change(.update(let member)):
            writer.write(UInt8(7))
            writer.append(Configuration(voters: [], learners: [member]).encode())
        case .change(.promote(let id)): writer.write(2, id)
        case .change(.remove(let id)): writer.write(3, id)
        case .change(.replace(let old, let new)):
            writer.write(4, old)
            writer.write(new.rawValue)
        case .addMember(let name, let address, let replacing):
            writer.write(5, replacing ?? ServerID(0))
            writer.write(name ?? "")
            writer.write(address)
        case .transfer(let target): writer.write(6, target ?? ServerID(0))
        }
        return writer.bytes
    }

    init?(decoding bytes: [UInt8]) {
        var reader = ByteReader(bytes)
        guard let kind = reader.read(UInt8.self) else { return nil }
        if kind == 1 || kind == 7 {
            guard let member = Configuration(decoding: bytes.dropFirst())?.members.first else { return nil }
            self = .change(kind == 1 ? .add(member) : .update(member))
            return
        }
        guard let raw = reader.read(UInt64.self) else { return nil }
        let id = ServerID(raw)
        switch kind {
        case 2: self = .change(.promote(id))
        case 3: self = .change(.remove(id))
        case 4:
            guard let new = reader.read(UInt64.self) else { return nil }
            self = .change(.replace(id, with: ServerID(new)))
        case 5:
            guard let name = reader.readString(), let address = reader.readString() else { return nil }
            self = .addMember(name: name.isEmpty ? nil : name, peerAddress: address, replacing: raw == 0 ? nil : id)
        case 6: self = .transfer(to: raw == 0 ? nil : id)
        default: return nil
        }
        guard reader.isAtEnd else { return nil }
    }

    /// The leader's answer.
    struct Answer: Hashable, Sendable {
        var error: OperationError?
        /// The member that was taken in.
        var member: Member?

        init(error: OperationError? = nil, member: Member? = nil) {
            self.error = error
            self.member = member
        }

        func encode() -> [UInt8] {
            var writer = ByteWriter()
            writer.write(error?.code.rawValue ?? "")
            writer.write(error?.leader?.rawValue ?? 0)
            writer.write(error?.description ?? "")
            if let member { writer.append(Configuration(voters: [], learners: [member]).encode()) }
            return writer.bytes
        }

        init?(decoding bytes: [UInt8]) {
            var reader = ByteReader(bytes)
            guard let code = reader.readString(), let leader = reader.read(UInt64.self), let text = reader.readString()
            else { return nil }
            if !code.isEmpty {
                guard let code = OperationError.Code(rawValue: code) else { return nil }
                error = OperationError(code, leader: leader == 0 ? nil : ServerID(leader), text)
            }
            if !reader.isAtEnd { member = Configuration(decoding: reader.remaining)?.members.first }
        }
    }
}

extension ByteWriter {
    fileprivate mutating func write(_ kind: UInt8, _ id: ServerID) {
        write(kind)
        write(id.rawValue)
    }
}
