/// What must hold of a key for a command to change it. Checked when the entry is applied, so it is atomic with the change.
public enum Condition: Hashable, Sendable {
    /// Always.
    case none
    /// The key must not be there (`If-None-Match: *`).
    case absent
    /// The key must be there (`If-Match: *`).
    case exists
    /// The key must have been changed last by this revision (`If-Match: "REV"`); 0 means that it must not be there.
    case modRevision(UInt64)

    /// Whether the condition holds for a key whose last change was `current`; nil when there is no such key.
    func holds(modRevision current: UInt64?) -> Bool {
        switch self {
        case .none: true
        case .absent: current == nil
        case .exists: current != nil
        case .modRevision(0): current == nil
        case .modRevision(let revision): current == revision
        }
    }
}
