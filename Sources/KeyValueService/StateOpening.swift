public import KeyValue
public import RaftNode

/// Opens a node's state; one that is damaged is built anew.
public enum StateOpening {
    /// What was done about a damaged state.
    public struct Rebuild: Sendable {
        /// What was wrong with it.
        public var reason: String
        /// What the new state is built from.
        public var source: StateRecovery.Source
        /// Where the damaged one is kept.
        public var setAside: String
    }

    /// Opens the state of the node whose data lies in `directory`, in `state/` below it.
    ///
    /// A state is derived from the log and the snapshots, so a damaged one is set aside, and an empty one takes its place, when the log is
    /// sound and begins with the first entry, or a sound snapshot reaches it: the node then loads what it lacks when it starts.
    /// Otherwise nothing is changed.
    ///
    /// - Throws: `StoreError` and LMDB's error as ``KeyValue/Store/open(directory:options:)`` does; `StartError` when the state is damaged and
    ///   cannot be built anew.
    public static func open(directory: String, options: StoreOptions) throws -> (store: Store, rebuild: Rebuild?) {
        let state = directory + "/state"
        do {
            return (try Store.open(directory: state, options: options), nil)
        } catch let error as StoreError where [.corrupt, .inconsistentDirectory].contains(error.code) {
            let source: StateRecovery.Source
            do {
                source = try StateRecovery.source(
                    directory: directory,
                    hadState: Store.exists(directory: state),
                    machine: KeyValueMachine.self,
                    snapshotSchema: Store.snapshotSchema
                )
            } catch let cause as StartError where cause.code == .damaged {
                throw StartError(.damaged, "\(error); and it cannot be built anew: \(cause)")
            }
            // Nothing is lost by this: the log has all that is not in the snapshot, and was trimmed only below it.
            let name = try Store.setAside(directory: state, because: error.description)
            let rebuild = Rebuild(reason: error.description, source: source, setAside: "\(state)/\(name)")
            return (try Store.open(directory: state, options: options), rebuild)
        }
    }
}
