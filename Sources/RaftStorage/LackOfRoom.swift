/// That a directory's file system, quota or map has no room for more.
package struct LackOfRoom: Hashable, Sendable, CustomStringConvertible {
    package var directory: String
    /// How many bytes should be free on its file system for all to go on.
    package var neededBytes: Int
    /// How many its file system says it gives; a quota may give less.
    package var availableBytes: Int
    /// What was seen, in words.
    package var cause: String

    package init(directory: String, neededBytes: Int, availableBytes: Int, cause: String) {
        self.directory = directory
        self.neededBytes = neededBytes
        self.availableBytes = availableBytes
        self.cause = cause
    }

    package var description: String {
        "no room for \(directory): \(cause); it needs \(Self.mebibytes(neededBytes)) free, "
            + "and its file system has \(Self.mebibytes(availableBytes))"
    }

    private static func mebibytes(_ count: Int) -> String { "\((count + 1 << 20 - 1) >> 20) MiB" }
}
