internal import NIOCore
package import Raft

/// A server's wish to be taken into the cluster.
package struct JoinRequest: Hashable, Sendable {
    package var member: Member
    /// The name or the identity of the server whose place it takes.
    package var replaces: String?

    package init(member: Member, replaces: String? = nil) {
        self.member = member
        self.replaces = replaces
    }
}

/// A question to a server outside of the message links.
package enum ControlRequest: Hashable, Sendable {
    /// Who are you? The transport itself answers, with ``ControlResponse/identity(_:)``.
    case identify
    case join(JoinRequest)
    /// Anything else between nodes; opaque here. At most ``ControlCodec/maximumBytes``.
    case call([UInt8])
}

package enum ControlResponse: Hashable, Sendable {
    case identity(ServerIdentity)
    /// The request was carried out; the cluster to belong to.
    case accepted(ClusterID)
    /// Ask the leader, at this address of the form `host:port`.
    case redirect(String)
    /// It was not carried out, and why.
    case refused(String)
    /// The answer to ``ControlRequest/call(_:)``.
    case answer([UInt8])
}

/// The wire form of control requests and responses.
package enum ControlCodec {
    /// What the bytes of a `call` or an `answer` may take.
    package static let maximumBytes = 256 << 10
    static let maximumFrameBytes = maximumBytes + 64

    static func encode(_ request: ControlRequest, into buffer: inout ByteBuffer) {
        switch request {
        case .identify: buffer.write(UInt8(1))
        case .join(let join):
            buffer.write(UInt8(2))
            buffer.write(join.member)
            buffer.write(UInt8(join.replaces == nil ? 0 : 1))
            if let replaces = join.replaces { buffer.writeText(replaces) }
        case .call(let bytes):
            buffer.write(UInt8(3))
            buffer.writeCounted(bytes)
        }
    }

    static func decodeRequest(_ buffer: ByteBuffer) throws(WireError) -> ControlRequest {
        try buffer.parse { reader throws(WireError) in
            switch try reader.read(UInt8.self) {
            case 1: return .identify
            case 2:
                let member = try reader.readMember()
                return .join(
                    JoinRequest(member: member, replaces: try reader.readBool() ? try reader.readString() : nil)
                )
            case 3: return .call(try reader.readCountedBytes())
            default: throw WireError("an unknown control request")
            }
        }
    }

    static func encode(_ response: ControlResponse, into buffer: inout ByteBuffer) {
        switch response {
        case .identity(let identity):
            buffer.write(UInt8(1))
            buffer.write(identity)
        case .accepted(let cluster):
            buffer.write(UInt8(2))
            buffer.write(cluster.rawValue)
        case .redirect(let address):
            buffer.write(UInt8(3))
            buffer.writeText(address)
        case .refused(let reason):
            buffer.write(UInt8(4))
            buffer.writeText(reason, limit: 8192)
        case .answer(let bytes):
            buffer.write(UInt8(5))
            buffer.writeCounted(bytes)
        }
    }

    static func decodeResponse(_ buffer: ByteBuffer) throws(WireError) -> ControlResponse {
        try buffer.parse { reader throws(WireError) in
            switch try reader.read(UInt8.self) {
            case 1: return .identity(try reader.readServerIdentity())
            case 2: return .accepted(ClusterID(try reader.read(UInt64.self)))
            case 3: return .redirect(try reader.readString())
            case 4: return .refused(try reader.readString())
            case 5: return .answer(try reader.readCountedBytes())
            default: throw WireError("an unknown control response")
            }
        }
    }
}

extension ByteBuffer {
    mutating func write(_ member: Member) {
        write(member.id.rawValue)
        switch member.promotion {
        case .manual: write(UInt8(0))
        case .voter: write(UInt8(1))
        case .replacing(let id):
            write(UInt8(2))
            write(id.rawValue)
        }
        writeText(member.name)
        writeText(member.peerAddress)
        writeText(member.clientAddress)
    }
}

extension WireReader {
    mutating func readMember() throws(WireError) -> Member {
        let id = try readServerID()
        let promotion: Member.Promotion
        switch try read(UInt8.self) {
        case 0: promotion = .manual
        case 1: promotion = .voter
        case 2: promotion = .replacing(try readServerID())
        default: throw WireError("an unknown promotion")
        }
        let name = try readString()
        let peerAddress = try readString()
        return Member(
            id: id,
            name: name,
            peerAddress: peerAddress,
            clientAddress: try readString(),
            promotion: promotion
        )
    }
}
