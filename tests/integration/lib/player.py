"""A supervisor played by a test, written from the description of the API alone."""
import array
import json
import os
import socket
import threading
import zlib


class Player:
    """Answers calls by method: answers["Up"](parameters, fds) gives the reply's parameters, an Exception an error
    answer, None hangs up."""

    def __init__(self, path):
        self.path, self.answers, self.calls = path, {}, []
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        self.socket.listen(200)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection = self.socket.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection):
        with connection:
            data, fds = b"", array.array("i")
            while True:
                piece, control, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(253 * 4))
                for level, kind, content in control:
                    if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                        fds.frombytes(content)
                if not piece:
                    return
                data += piece
                while b"\0" in data:
                    message, data = data.split(b"\0", 1)
                    reply = self.answer(json.loads(message), list(fds))
                    del fds[:]
                    if reply is None:
                        return
                    connection.sendall(json.dumps(reply).encode() + b"\0")

    def answer(self, call, fds):
        assert set(call) == {"method", "parameters"}, call
        interface, method = call["method"].rsplit(".", 1)
        assert interface == "gantry.supervisor"
        self.calls.append((method, call["parameters"]))
        try:
            parameters = self.answers[method](call["parameters"], fds)
        except KeyError as error:
            return failed(f"not played: {error}", 0)
        except OSError as error:
            return failed(error.strerror, error.errno)
        finally:
            for fd in fds:
                os.close(fd)
        return None if parameters is None else {"parameters": parameters}

    def close(self):
        # Closing alone would not wake the thread that accepts.
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def failed(text, errno):
    return {"error": "gantry.supervisor.Failed", "parameters": {"message": text, "errno": errno}}


def sealed(record):
    """As gantry seals its records: length, CRC and boot id of all before the last member."""
    text = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()[:-1]
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    return text + f',"integrity":"{len(text)}:{zlib.crc32(text):08x}:{boot}"}}\n'.encode()


def write_definition(state_dir, container, **members):
    """definition.json of a container that is running unless last_run=1 is among the members."""
    os.makedirs(f"{state_dir}/{container}", exist_ok=True)
    definition = {"id": container, "bundle": "/b", "rootfs": "/r", "restart": "always", "key": 7, "run": 1, **members}
    path = f"{state_dir}/{container}/definition.json"
    with open(f"{path}.new", "wb") as file:
        file.write(sealed(definition))
    os.rename(f"{path}.new", path)


def rewrite(path, **members):
    """Changes members of a sealed record."""
    with open(path, encoding="utf-8") as file:
        record = json.load(file)
    del record["integrity"]
    with open(path, "wb") as file:
        file.write(sealed({**record, **members}))
