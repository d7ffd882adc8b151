public import Raft
internal import RaftStorage

/// Why a server is kept from leading and from answering reads: its state is not the one of the other replicas.
///
/// It goes on replicating and voting, because its log is right. The quarantine is kept in the data directory and ends with it: the
/// server is to be replaced by a new one.
public struct Quarantine: Hashable, Sendable, CustomStringConvertible {
    /// The applied index at which the states were compared.
    public var index: LogIndex
    /// This server's hash of its state there, and the one of the majority, in hexadecimal digits.
    public var ownHash: String
    public var expectedHash: String
    /// What was seen.
    public var reason: String

    public var description: String {
        "\(reason) Replace this server by a new one: start it with its --id and --data and with --rejoin HOST:PORT of another member"
    }
}

extension Quarantine {
    static let fileName = "quarantine"
    private static let title = "kontiki quarantine 1"

    /// The quarantine that the directory keeps, if any. A file that cannot be understood is one as well.
    static func load(_ directory: String) throws(StorageError) -> Quarantine? {
        guard let bytes = try DurableFile.read(fileName, in: directory) else { return nil }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        func value(_ name: String) -> String? {
            lines.first { $0.hasPrefix(name + ": ") }.map { String($0.dropFirst(name.count + 2)) }
        }
        guard lines.first.map(String.init) == title, let index = value("index").flatMap(LogIndex.init) else {
            let reason = "The file \(directory)/\(fileName) says that this server's state is wrong."
            return Quarantine(index: 0, ownHash: "", expectedHash: "", reason: reason)
        }
        return Quarantine(
            index: index,
            ownHash: value("own hash") ?? "",
            expectedHash: value("expected hash") ?? "",
            reason: value("reason") ?? ""
        )
    }

    /// Makes the quarantine durable.
    func store(_ directory: String) throws(StorageError) {
        let text = """
            \(Self.title)
            index: \(index)
            own hash: \(ownHash)
            expected hash: \(expectedHash)
            reason: \(reason)

            """
        try DurableFile.replace(Self.fileName, in: directory, with: Array(text.utf8))
    }
}

extension [UInt8] {
    var hexadecimal: String { map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }
}
