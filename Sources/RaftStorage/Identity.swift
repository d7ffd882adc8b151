package import Raft

/// Who a server is: made once together with its data directory, and kept in the log's environment.
package struct Identity: Hashable, Sendable {
    package var serverID: ServerID
    /// ``Raft/ClusterID/none`` until the server has been taken into a cluster.
    package var clusterID: ClusterID
    /// The operator's label.
    package var name: String
    /// `host:port` for its peers, as last configured.
    package var peerAddress: String
    /// Where it takes clients, as last configured.
    package var clientAddress: String

    package init(
        serverID: ServerID,
        clusterID: ClusterID = .none,
        name: String,
        peerAddress: String,
        clientAddress: String = ""
    ) {
        self.serverID = serverID
        self.clusterID = clusterID
        self.name = name
        self.peerAddress = peerAddress
        self.clientAddress = clientAddress
    }

    /// A new server with a random identity.
    package static func new(
        clusterID: ClusterID = .none,
        name: String,
        peerAddress: String,
        clientAddress: String = ""
    ) -> Identity {
        Identity(
            serverID: ServerID(.random(in: 1 ... .max)),
            clusterID: clusterID,
            name: name,
            peerAddress: peerAddress,
            clientAddress: clientAddress
        )
    }
}

/// What a server finds of its log when it starts.
package struct Recovered: Hashable, Sendable {
    package var identity: Identity
    package var hardState: HardState
    package var base: LogBase
    /// Contiguous from `base.position.index + 1`; every one was read and verified.
    package var entries: [EntryInfo]
}
