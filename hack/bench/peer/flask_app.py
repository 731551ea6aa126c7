"""A notes service in Flask as in tutorials: notes in a dictionary, AES-GCM with one master key, and a JWT
as session. The benchmark compares reading a note with it. It is not an example to follow."""

import base64
import functools
import os

import jwt
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from flask import Flask, jsonify, request

app = Flask(__name__)
key = base64.b64decode(os.environ["PEER_KEY"])
secret = os.environ["PEER_JWT_SECRET"]


def sealed(content):
    nonce = os.urandom(12)
    return {"id": "1", "iv": nonce, "ciphertext": AESGCM(key).encrypt(nonce, content.encode(), None), "created_at": "2026-01-01T00:00:00Z"}


notes = {"alice": [sealed("x" * int(os.environ["PEER_NOTE_SIZE"]))]}


def signed_in(handler):
    @functools.wraps(handler)
    def wrapper(*args, **kwargs):
        try:
            scheme, token = request.headers["Authorization"].split(" ", 1)
            request.user = jwt.decode(token, secret, algorithms=["HS256"])["username"]
        except (KeyError, ValueError, jwt.InvalidTokenError):
            return jsonify({"error": "Invalid token"}), 401
        return handler(*args, **kwargs)

    return wrapper


@app.route("/api/notes/<note_id>")
@signed_in
def get_note(note_id):
    for note in notes.get(request.user, []):
        if note["id"] == note_id:
            content = AESGCM(key).decrypt(note["iv"], note["ciphertext"], None).decode()
            return jsonify({"id": note["id"], "content": content, "created_at": note["created_at"]})
    return jsonify({"error": "Note not found"}), 404


if __name__ == "__main__":
    # Flask's own server, as tutorials start it, with a new connection for each request.
    app.run(host="127.0.0.1", port=int(os.environ["PEER_PORT"]), ssl_context=(os.environ["PEER_CERT"], os.environ["PEER_KEY_FILE"]))
