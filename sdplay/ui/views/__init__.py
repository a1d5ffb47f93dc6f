"""What the page shows, from plain data to plain data: HTML, data frames, sentences. Nothing here knows Gradio."""
