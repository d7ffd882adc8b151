import NIOCore

/// The JSON bodies that requests may have.
enum RequestBodies {
    /// A body whose unknown fields are refused.
    protocol Strict {
        static var fields: [String] { get }

        init(_ object: BodyObject) throws(Problem)
    }

    /// `POST /members`
    struct NewMember: Strict {
        static let fields = ["name", "addr"]
        var name: String?
        var addr: String

        init(_ object: BodyObject) throws(Problem) {
            name = try object.text("name")
            addr = try object.requiredText("addr")
        }
    }

    /// `POST /leader/transfer`
    struct Transfer: Strict {
        static let fields = ["to"]
        var to: String?

        init(_ object: BodyObject) throws(Problem) {
            to = try object.text("to")
        }
    }

    static func decode<Body: Strict>(_: Body.Type, from buffer: ByteBuffer) throws(Problem) -> Body {
        try Body(BodyObject(buffer, known: Body.fields))
    }
}
