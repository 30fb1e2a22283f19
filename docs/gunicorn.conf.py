import os


def post_worker_init(worker):
    worker.wsgi.extensions["kedro_flask_server"].runs.start()


def worker_exit(server, worker):
    has_drained = worker.wsgi.extensions["kedro_flask_server"].runs.drain(20)
    if not has_drained:  # what still executes is recorded as stopped, and has to be
        os._exit(1)
