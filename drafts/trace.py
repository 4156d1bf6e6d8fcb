from a import *
import ssl,tempfile
for extra in ([],["--trace-frames"]):
    p=subprocess.Popen([BIN,"--listen","127.0.0.1:0","--threads","1","--engine","epoll","--tls-self-signed","--stall-timeout","2s","--max-queued","64KiB","--stats","500ms",*extra],stdout=subprocess.PIPE,stderr=subprocess.DEVNULL,text=True)
    last=[""]
    while True:
        l=p.stdout.readline(); m=re.search(r"wss://127.0.0.1:(\d+)",l)
        if m: port=int(m[1]); break
    def rd():
        for l in p.stdout:
            if "connections," in l: last[0]=l
    threading.Thread(target=rd,daemon=True).start()
    c=ssl.create_default_context(); c.check_hostname=False; c.verify_mode=ssl.CERT_NONE
    r=socket.socket(); r.setsockopt(socket.SOL_SOCKET,socket.SO_RCVBUF,4096); r.connect(("127.0.0.1",port))
    s=c.wrap_socket(r)
    s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    s.recv(1000)
    s.settimeout(.5)
    try:
        for _ in range(2000): s.sendall(fr(2,b"a"*10000))
    except Exception as e: pass
    time.sleep(7)
    print(extra,"after 7 s with --stall-timeout 2s:",last[0].strip()[:60],re.findall(r"timeouts_\w+ \d+",last[0])); p.kill()
