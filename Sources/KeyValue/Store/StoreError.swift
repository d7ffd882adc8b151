internal import LMDB

/// Why the store cannot do what was asked.
public struct StoreError: Error, Hashable, Sendable, CustomStringConvertible {
    public struct Code: RawRepresentable, Hashable, Sendable {
        public var rawValue: String

        public init(rawValue: String) { self.rawValue = rawValue }

        /// A stored record's checksum is wrong, or it is malformed. The node must not go on with this state.
        public static let corrupt = Code(rawValue: "corrupt")
        /// The directory was written by a newer version.
        public static let newerFormat = Code(rawValue: "newer_format")
        /// The directory or snapshot was written by a version before the first release.
        public static let olderFormat = Code(rawValue: "older_format")
        /// The files of the directory do not fit together.
        public static let inconsistentDirectory = Code(rawValue: "inconsistent_directory")
        /// A snapshot ends early, is malformed, or is not the one that was announced.
        public static let badSnapshot = Code(rawValue: "bad_snapshot")
        /// There is no room for a flush or a new state. Nothing is lost from memory, the old state is intact; it may be tried again.
        public static let noRoom = Code(rawValue: "no_room")
        /// Every record is sound, but together they are not the state that applying the entries made.
        public static let stateDiffers = Code(rawValue: "state_differs")
        /// A system call failed.
        public static let system = Code(rawValue: "system")
    }

    public var code: Code
    /// The directory or file that it is about.
    public var path: String
    public var message: String

    public init(code: Code, path: String, message: String) {
        self.code = code
        self.path = path
        self.message = message
    }

    public var description: String { "\(path): \(message)" }
}

extension StoreError {
    /// What a failed installation of a state tells when all that it lacked is room; nil for any other error.
    static func noRoom(_ error: any Error, toInstallIn path: String) -> StoreError? {
        let lacksRoom = (error as? LMDBError)?.isLackOfRoom ?? ((error as? StoreError)?.code == .noRoom)
        guard lacksRoom else { return nil }
        return StoreError(
            code: .noRoom,
            path: path,
            message: "no room to install a state beside the present one (\(error)); free some space, "
                + "for instance by removing what was set aside as damaged and is not needed any more"
        )
    }
}
