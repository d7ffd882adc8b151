/// Why the store cannot do what was asked.
public struct StoreError: Error, Hashable, Sendable, CustomStringConvertible {
    public struct Code: RawRepresentable, Hashable, Sendable {
        public var rawValue: String

        public init(rawValue: String) { self.rawValue = rawValue }

        /// A stored record's checksum is wrong, or it is malformed. The node must not go on with this state.
        public static let corrupt = Code(rawValue: "corrupt")
        /// The directory was written by a newer version.
        public static let newerFormat = Code(rawValue: "newer_format")
        /// The files of the directory do not fit together.
        public static let inconsistentDirectory = Code(rawValue: "inconsistent_directory")
        /// A snapshot ends early, is malformed, or is not the one that was announced.
        public static let badSnapshot = Code(rawValue: "bad_snapshot")
        /// There is no room for a flush. Nothing is lost from memory; a later flush tries again.
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
