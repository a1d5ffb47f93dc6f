# A Docker Space or a local box: docker build -t sdplay . && docker run -p 7860:7860 -v sdplay:/home/user/sdplay [--gpus all] sdplay
FROM python:3.12-slim
RUN useradd -m -u 1000 user
USER user
ENV HOME=/home/user \
    PATH=/home/user/.local/bin:$PATH \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    SDPLAY_HOME=/home/user/sdplay \
    PYTHONUNBUFFERED=1
WORKDIR $HOME/app
COPY --chown=user requirements.txt .
RUN pip install --no-cache-dir --user -r requirements.txt && mkdir -p /home/user/sdplay
COPY --chown=user . .
EXPOSE 7860
VOLUME /home/user/sdplay
CMD ["python", "app.py"]
