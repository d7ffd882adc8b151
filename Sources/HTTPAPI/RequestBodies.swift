import FoundationEssentials
import NIOCore

/// The JSON bodies that requests may have.
enum RequestBodies {
    /// A body whose unknown fields are refused: a misspelt one would otherwise be passed over in silence.
    protocol Strict: Decodable {
        static var fields: [String] { get }
    }

    /// `POST /members`
    struct NewMember: Strict {
        static let fields = ["name", "addr"]
        var name: String?
        var addr: String
    }

    /// `POST /leader/transfer`
    struct Transfer: Strict {
        static let fields = ["to"]
        var to: String?
    }

    /// The names of an object's members.
    private struct Names: Decodable {
        struct Key: CodingKey {
            var stringValue: String
            var intValue: Int? { nil }
            init?(stringValue: String) { self.stringValue = stringValue }
            init?(intValue: Int) { nil }
        }

        var names: [String]

        init(from decoder: any Decoder) throws {
            names = try decoder.container(keyedBy: Key.self).allKeys.map(\.stringValue)
        }
    }

    static func decode<Body: Strict>(_: Body.Type, from buffer: ByteBuffer) throws(Problem) -> Body {
        let data = Data(buffer.readableBytesView)
        let expected = "a JSON object with the fields \(Body.fields.joined(separator: ", "))"
        do {
            let names = try JSONDecoder().decode(Names.self, from: data).names
            if let unknown = names.first(where: { !Body.fields.contains($0) }) {
                throw Problem(
                    400,
                    .invalidBody,
                    "unknown field in the body",
                    "'\(unknown)' is not known; expected is \(expected)."
                ).with { $0.known = Body.fields }
            }
            return try JSONDecoder().decode(Body.self, from: data)
        } catch let problem as Problem {
            throw problem
        } catch {
            var reason = "it is malformed"
            switch error {
            case DecodingError.keyNotFound(let key, _): reason = "'\(key.stringValue)' is missing"
            case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context):
                let path = context.codingPath.map(\.stringValue).joined(separator: ".")
                reason = path.isEmpty ? "it is no object" : "'\(path)' has the wrong type"
            default: break
            }
            throw Problem(400, .invalidBody, "invalid body", "Expected is \(expected); \(reason).").with {
                $0.known = Body.fields
            }
        }
    }
}
